//! The cached, migrated cluster that every test process copies, and the copies.

use super::server::{migrated, throwaway, wait_for};
use crate::{
    Error, Search, Server,
    account::{Account, own_user},
    choose::locate,
    database::ensure_database,
    error::Doing,
    place::{reachable, socket_directory},
};
use sqlx::migrate::Migrator;
use std::{
    env, fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
};

/// The migrated database in every copy.
pub(super) const TEMPLATE: &str = "template_of_tests";
const TEMPLATES: &str = "template-";
const COPIES: &str = "run-";

/// A directory of this process's own below the cache, with a lock that is held as long as it is wanted; removed when
/// dropped, or by a later process.
#[derive(Debug)]
pub(super) struct Copy {
    directory: PathBuf,
    _alive: fs::File,
}

impl Copy {
    /// Where the cluster is.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // What cannot be removed now is removed by a later process.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A copy of the cached cluster, which is built first where it is missing.
pub(super) fn copy(migrator: &Migrator) -> Result<Copy, Error> {
    let account = Account::current()?;
    let cache = Cache::open(&account)?;
    let binaries = locate(&Search::of_environment()?, None, &account)?;
    let template = cache.root.join(format!(
        "{TEMPLATES}{}-{}-{}",
        binaries.major,
        fingerprint(migrator),
        account.user
    ));
    if !template.try_exists().doing("look for", &template)? {
        cache.build(&template, migrator)?;
    }
    let copy = cache.new_copy()?;
    copy_files(&template.join("data"), &copy.directory.join("data"))?;
    Ok(copy)
}

/// An empty directory of the same kind, for a cluster of a test's own.
pub(super) fn empty() -> Result<Copy, Error> {
    Cache::open(&Account::current()?)?.new_copy()
}

/// Short name for the schema: the same for the same migrations.
pub(super) fn fingerprint(migrator: &Migrator) -> String {
    let each = migrator.iter().flat_map(|one| {
        one.version
            .to_be_bytes()
            .into_iter()
            .chain(one.checksum.iter().copied())
    });
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", each.fold(0xcbf2_9ce4_8422_2325, step))
}

/// The directory of templates and copies, locked.
struct Cache {
    root: PathBuf,
    _lock: fs::File,
}

impl Cache {
    fn open(account: &Account) -> Result<Cache, Error> {
        let root = reachable(&writable_root()?, account)?;
        let path = root.join("lock");
        let lock = fs::File::create(&path).doing("open", &path)?;
        lock.lock().doing("lock", &path)?;
        Ok(Cache { root, _lock: lock })
    }

    fn build(&self, template: &Path, migrator: &Migrator) -> Result<(), Error> {
        let unfinished = self.root.join("unfinished");
        remove(&unfinished)?;
        let server = Server::start(&throwaway(&unfinished))?;
        wait_for(async {
            ensure_database(&server.url("postgres"), TEMPLATE).await?;
            migrated(&server.url(TEMPLATE), migrator).await
        })?;
        server.stop()?;
        drop(server);
        // Templates of other schemas are of no use any more; under the lock nobody is copying one.
        for old in self.below(TEMPLATES)? {
            remove(&old)?;
        }
        fs::rename(&unfinished, template).doing("move the template to", template)
    }

    fn new_copy(&self) -> Result<Copy, Error> {
        for old in self.below(COPIES)? {
            let alive = fs::File::open(old.join("alive"));
            if alive.is_ok_and(|alive| alive.try_lock().is_err()) {
                continue;
            }
            // Its server may be ending just now and leave a file behind; then the next process finishes this.
            let _ = fs::remove_dir_all(socket_directory(&old));
            let _ = fs::remove_dir_all(&old);
        }
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = self
            .root
            .join(format!("{COPIES}{}-{number}", std::process::id()));
        remove(&directory)?;
        fs::create_dir(&directory).doing("create", &directory)?;
        let path = directory.join("alive");
        let alive = fs::File::create(&path).doing("open", &path)?;
        alive.lock().doing("lock", &path)?;
        Ok(Copy {
            directory,
            _alive: alive,
        })
    }

    fn below(&self, prefix: &str) -> Result<Vec<PathBuf>, Error> {
        let entries = fs::read_dir(&self.root)
            .doing("list", &self.root)?
            .flatten();
        let wanted =
            entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
        Ok(wanted.map(|entry| entry.path()).collect())
    }
}

/// `target/pgtest` beside the running test, or a directory of this user's own where that is not ours to write.
fn writable_root() -> Result<PathBuf, Error> {
    let program = env::current_exe().doing("find", "the running program")?;
    let target = program
        .ancestors()
        .find(|path| path.ends_with("deps"))
        .and_then(|deps| deps.ancestors().nth(2));
    let root = target
        .or(program.parent())
        .unwrap_or(Path::new("/tmp"))
        .join("pgtest");
    if fs::create_dir_all(&root).is_ok() && fs::File::create(root.join("lock")).is_ok() {
        return Ok(root);
    }
    private_root()
}

fn private_root() -> Result<PathBuf, Error> {
    let user = own_user()?;
    let root = env::temp_dir().join(format!("polar-jobs-pgtest-{user}"));
    match fs::DirBuilder::new().mode(0o700).create(&root) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => other.doing("create", &root)?,
    }
    let found = fs::symlink_metadata(&root).doing("look at", &root)?;
    if found.is_dir() && found.uid() == user {
        return Ok(root);
    }
    Err(io::Error::other("it belongs to another user")).doing("use", &root)
}

fn remove(directory: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).doing("remove", directory)
        }
        _ => Ok(()),
    }
}

/// `cp` keeps owners and modes, and shares blocks where the file system can.
fn copy_files(from: &Path, to: &Path) -> Result<(), Error> {
    let sharing: &[&str] = if cfg!(target_os = "macos") {
        &["-ac"]
    } else {
        &["-a", "--reflink=auto"]
    };
    let run = |arguments: &[&str]| {
        Command::new("cp")
            .args(arguments)
            .arg(from)
            .arg(to)
            .output()
            .doing("run", "cp")
    };
    if run(sharing)?.status.success() {
        return Ok(());
    }
    // A `cp` that knows neither option, as in small containers.
    remove(to)?;
    let output = run(&["-a"])?;
    let said = || io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    if output.status.success() {
        Ok(())
    } else {
        Err(said()).doing("copy", from)
    }
}
