//! A durable cluster of one test's own, to crash.

use super::{
    blocking,
    cache::{self, Copy},
    server::{migrated, wait_for},
};
use crate::{Error, Options, Server, ensure_database};
use sqlx::migrate::Migrator;

/// A server that syncs every commit, with a migrated database on it; [`Server::kill9`] and [`Server::restart`] crash
/// it and bring it back. Its files go when this is dropped.
#[derive(Debug)]
pub struct DurableServer {
    /// Declared before the directory it runs on, so that it stops first.
    pub server: Server,
    /// The migrated database. It stays valid over a restart.
    pub url: String,
    _directory: Copy,
}

/// Starts a durable server for this test alone.
///
/// # Panics
/// With the reason, when there is no Postgres or it refuses.
pub async fn durable_server(migrator: fn() -> Migrator) -> DurableServer {
    let started: Result<DurableServer, Error> = blocking(move || {
        let directory = cache::empty()?;
        let server = Server::start(&Options::durable(directory.directory()))?;
        let url = server.url("polar_jobs");
        wait_for(async {
            ensure_database(&server.url("postgres"), "polar_jobs").await?;
            migrated(&url, &migrator()).await
        })?;
        Ok(DurableServer {
            server,
            url,
            _directory: directory,
        })
    })
    .await;
    started.unwrap_or_else(|error| panic!("{error}"))
}
