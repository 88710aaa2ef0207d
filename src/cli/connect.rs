//! Opening the database for a command.

use std::time::Duration;

use anyhow::Context;
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection, PgConnection, PgPool};

use super::Failure;
use crate::config::{Config, DatabaseUrl};

/// How long a person waits to hear that the database does not answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A pool on `DATABASE_URL`, proven to answer.
pub(crate) async fn pool(config: &Config, connections: u32) -> Result<PgPool, Failure> {
    let database = config.database()?;
    let options = PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(PATIENCE);
    let pool = options.connect_with(database.options()).await;
    Ok(pool.with_context(|| cannot_reach(database))?)
}

/// One connection.
pub(crate) async fn connection(database: &DatabaseUrl) -> Result<PgConnection, Failure> {
    let opened =
        tokio::time::timeout(PATIENCE, PgConnection::connect_with(&database.options())).await;
    match opened {
        Ok(connection) => Ok(connection.with_context(|| cannot_reach(database))?),
        Err(_) => Err(Failure::failed(format!(
            "{}: no answer within {} s",
            cannot_reach(database),
            PATIENCE.as_secs()
        ))),
    }
}

fn cannot_reach(database: &DatabaseUrl) -> String {
    format!("the database {database} (DATABASE_URL) cannot be used")
}
