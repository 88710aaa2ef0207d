//! Directories and searches that the tests of the launcher share.

use private_postgres::{Durability, Options, Search};
use std::{fs, os::unix::fs::PermissionsExt, path::Path};
use tempfile::TempDir;

/// A directory that other accounts may enter, so that root's step down reaches it.
pub(crate) fn directory() -> TempDir {
    let directory = TempDir::new().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

/// A throwaway server below `directory`.
pub(crate) fn options(directory: &Path) -> Options {
    Options {
        durability: Durability::Throwaway,
        ..Options::durable(directory)
    }
}

/// A search on a machine without any Postgres, and without a client to fetch one.
pub(crate) fn nothing(cache: &Path) -> Search {
    Search {
        explicit: None,
        path: vec![],
        versioned: vec![],
        cache: cache.to_path_buf(),
        clients: vec![],
    }
}
