//! The private Postgres of `dev`, of `bench` and of the tests: this product stands on Postgres alone, and nobody
//! should have to set one up to try it or to run its tests.
//!
//! A Postgres is looked for (`POSTGRES_BIN`, `PATH`, the usual places), started on a data directory of ours, reached
//! through a socket that only we can open, and stopped with the process that started it, even when that is killed.
//! Nothing here is used where `DATABASE_URL` is set.

mod account;
mod binaries;
mod choose;
mod cluster;
mod database;
mod error;
mod fetch;
mod find;
mod leftovers;
mod place;
mod process;
mod readiness;
mod server;
mod settings;
#[cfg(feature = "testing")]
pub mod testing;
mod url;

pub use self::{
    database::ensure_database, error::Error, fetch::Client, find::Search, server::Server,
    url::psql_line,
};

use std::path::PathBuf;

/// What kind of server to start, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// Holds the data, the socket, the log and the lock; created where it is missing.
    pub directory: PathBuf,
    /// Whether commits must survive a crash of the machine.
    pub durability: Durability,
    /// `None`: reachable through the socket alone. `Some`: also on 127.0.0.1 at this port, for programs that cannot
    /// use a socket. There is no password: everybody on this machine can then connect.
    pub port: Option<u16>,
    /// Server settings beyond the defaults, as in `postgresql.conf`; they win over ours.
    pub settings: Vec<(String, String)>,
}

impl Options {
    /// A durable server on its socket alone, below `directory`.
    pub fn durable(directory: impl Into<PathBuf>) -> Options {
        Options {
            directory: directory.into(),
            durability: Durability::Durable,
            port: None,
            settings: Vec::new(),
        }
    }
}

/// What a commit is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// `fsync` on: a commit survives the loss of power.
    Durable,
    /// `fsync` off: faster, and lost with the machine. For tests.
    Throwaway,
}
