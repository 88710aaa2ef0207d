//! A server for tests, and bringing its databases to the current schema.

use crate::{Durability, Error, Options};
use sqlx::{Connection, PgConnection, migrate::Migrator};

/// A server for tests in `directory`.
pub(super) fn throwaway(directory: &std::path::Path) -> Options {
    Options {
        durability: Durability::Throwaway,
        ..Options::durable(directory)
    }
}

/// Brings a database to the current schema.
pub(super) async fn migrated(url: &str, migrator: &Migrator) -> Result<(), Error> {
    let failed = |source| Error::Sql {
        action: "migrate the test template".to_owned(),
        source,
    };
    let mut connection = PgConnection::connect(url).await.map_err(failed)?;
    let migrated = migrator.run(&mut connection).await;
    migrated.map_err(|error| failed(sqlx::Error::Migrate(Box::new(error))))?;
    connection.close().await.map_err(failed)
}

/// Runs a future to its end on this (blocking) thread.
pub(super) fn wait_for<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let failed = |source| Error::Io {
        action: "start",
        path: "a runtime for the tests".into(),
        source,
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?
        .block_on(work)
}
