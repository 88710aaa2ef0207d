//! Where a cluster lives: below the directory that was asked for, unless the account cannot get there or a socket
//! path would be too long for the system.

use super::{
    account::Account,
    error::{Doing, Error},
};
use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// Socket paths end at 104 bytes on macOS and 108 on Linux; this leaves room for `/.s.PGSQL.65535`.
const LONGEST_SOCKET_DIRECTORY: usize = 85;

/// The directories of one cluster.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Ours: holds the lock and the log; the account owns only what is below.
    pub(super) base: PathBuf,
    /// `PGDATA`.
    pub(super) data: PathBuf,
    /// The socket's directory, mode 0700: with trust authentication only this keeps other users out.
    pub(super) socket: PathBuf,
}

impl Place {
    /// Creates the base directory and decides the rest.
    pub(super) fn prepare(directory: &Path, account: &Account) -> Result<Place, Error> {
        let base = reachable(directory, account)?;
        let (data, socket) = (base.join("data"), socket_directory(&base));
        Ok(Place { base, data, socket })
    }

    /// The lock that makes its holder the cluster's owner; `None` when another process holds it.
    pub(super) fn lock(&self) -> Result<Option<fs::File>, Error> {
        let path = self.base.join("lock");
        let file = fs::File::create(&path).doing("open", &path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error).doing("lock", &path),
        }
    }

    /// Creates the socket directory, or makes sure that the one that is there is nobody else's: in `/tmp` anyone
    /// could have put one.
    pub(super) fn open_socket_directory(&self, account: &Account) -> Result<(), Error> {
        match fs::DirBuilder::new().mode(0o700).create(&self.socket) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                self.check_socket_directory(account)
            }
            other => other.doing("create", &self.socket),
        }?;
        account.own(&self.socket)?;
        fs::set_permissions(&self.socket, fs::Permissions::from_mode(0o700))
            .doing("close", &self.socket)
    }

    fn check_socket_directory(&self, account: &Account) -> Result<(), Error> {
        let found = fs::symlink_metadata(&self.socket).doing("look at", &self.socket)?;
        // Root's own leftovers are fine too: the step after this gives them to the account.
        let ours = found.uid() == account.user || (account.steps_down() && found.uid() == 0);
        if found.is_dir() && ours {
            return Ok(());
        }
        Err(Error::ForeignSocketDirectory {
            directory: self.socket.clone(),
        })
    }
}

/// The directory itself, created; or, when it lies below one that the account may not enter (`/root` is 0700), a
/// stand-in below `/var/lib`, the same for the same directory.
pub(super) fn reachable(directory: &Path, account: &Account) -> Result<PathBuf, Error> {
    let asked = created(directory, account)?;
    if !account.steps_down() || !is_closed(&asked) {
        return Ok(asked);
    }
    let name = format!("{:016x}", fingerprint(asked.as_os_str()));
    created(&Path::new("/var/lib/polar-jobs").join(name), account)
}

/// The socket's directory for a cluster: beside the data, or short and below `/tmp`, the same in every process.
pub(super) fn socket_directory(base: &Path) -> PathBuf {
    let beside = base.join("s");
    if beside.as_os_str().len() <= LONGEST_SOCKET_DIRECTORY {
        return beside;
    }
    PathBuf::from(format!(
        "/tmp/polar-jobs-{:016x}",
        fingerprint(base.as_os_str())
    ))
}

/// Whether an ancestor keeps other users out.
pub(super) fn is_closed(path: &Path) -> bool {
    let keeps_out =
        |directory: &Path| fs::metadata(directory).is_ok_and(|found| found.mode() & 0o001 == 0);
    path.ancestors().skip(1).any(keeps_out)
}

fn created(directory: &Path, account: &Account) -> Result<PathBuf, Error> {
    fs::create_dir_all(directory).doing("create", directory)?;
    let directory = directory.canonicalize().doing("resolve", directory)?;
    if account.steps_down() {
        // The account must pass through, whatever our umask; it owns nothing here, so it can plant nothing here.
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))
            .doing("open", &directory)?;
    }
    Ok(directory)
}

/// FNV-1a: the same short name for the same path in every process, which the standard hasher does not promise.
fn fingerprint(text: &OsStr) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    text.as_encoded_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, step)
}
