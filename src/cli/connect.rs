//! Opening the database for a command.

use std::time::Duration;

use sqlx::{ConnectOptions, Connection, PgConnection, PgExecutor, PgPool};

use super::{Failure, pooler};
use crate::config::DatabaseUrl;
use crate::migrate;
use crate::queue::connect::{self, QueueDatabase};

/// How long a command waits for the database before it reports that it does not answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request of the ingress waits for a connection: its caller is to learn that it is the database that
/// does not answer, and the organizations API gives up after 9.5 s whatever the reason.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// A pool that is proven to answer and to hold the schema that this program needs.
pub(crate) async fn pool(database: &DatabaseUrl, connections: u32) -> Result<PgPool, Failure> {
    // A pool tries again until its time is up where a server refuses, and does not say why; one
    // connection says it at once.
    connection(database).await?.close().await?;
    let pool = lazy_pool(database, connections);
    require_schema(&pool).await?;
    Ok(pool)
}

/// A pool that connects when it is needed.
pub(crate) fn lazy_pool(database: &DatabaseUrl, connections: u32) -> PgPool {
    lazy_pool_within(database, connections, TIMEOUT)
}

/// The same for requests: the ingress starts also while the database restarts.
pub(crate) fn ingress_pool(database: &DatabaseUrl, connections: u32) -> PgPool {
    lazy_pool_within(database, connections, REQUEST_TIMEOUT)
}

fn lazy_pool_within(database: &DatabaseUrl, connections: u32, timeout: Duration) -> PgPool {
    connect::pool_options()
        .max_connections(connections)
        .acquire_timeout(timeout)
        .connect_lazy_with(database.options())
}

/// One connection.
pub(crate) async fn connection(database: &DatabaseUrl) -> Result<PgConnection, Failure> {
    let opened = tokio::time::timeout(TIMEOUT, database.options().connect()).await;
    let connection = opened
        .map_err(|_| Failure::failed(silent(database)))?
        .map_err(|error| explained(error, database))?;
    pooler::prove(database).await?;
    Ok(connection)
}

/// The queue's own way to the same database.
pub(crate) fn queue_database(database: &DatabaseUrl) -> Result<QueueDatabase, Failure> {
    Ok(QueueDatabase::new(database.expose(), database.pooler())?)
}

fn silent(database: &DatabaseUrl) -> String {
    let seconds = TIMEOUT.as_secs();
    format!("{}: no answer within {seconds} s", unusable(database))
}

fn explained(error: sqlx::Error, database: &DatabaseUrl) -> anyhow::Error {
    match pooler::advice(&error) {
        None => anyhow::Error::new(error).context(unusable(database)),
        Some(advice) => anyhow::anyhow!("{}: {error}: {advice}", unusable(database)),
    }
}

fn unusable(database: &DatabaseUrl) -> String {
    format!("the database {database} (DATABASE_URL) cannot be used")
}

async fn require_schema(pool: &PgPool) -> Result<(), Failure> {
    let needed = newest_version();
    match schema_version(pool).await? {
        Some(found) if found >= needed => Ok(()),
        Some(found) => {
            let what = format!("the schema is at version {found}, this program needs {needed}");
            Err(Failure::failed(format!("{what}: run `polar-jobs migrate`")))
        }
        None => Err(Failure::failed(
            "the database has no schema polar_jobs: run `polar-jobs migrate`",
        )),
    }
}

/// The newest migration that this program carries.
pub(crate) fn newest_version() -> i64 {
    migrate::migrator()
        .iter()
        .map(|migration| migration.version)
        .max()
        .unwrap_or_default()
}

/// The newest migration that the database has; `None` without the schema. Not checked when this is
/// compiled: the table belongs to the migrator and not to a migration.
pub(crate) async fn schema_version(pool: &PgPool) -> Result<Option<i64>, sqlx::Error> {
    if !has_migrations(pool).await? {
        return Ok(None);
    }
    sqlx::query_scalar("SELECT max(version) FROM polar_jobs._migrations WHERE success")
        .fetch_one(pool)
        .await
}

/// How many migrations the database has; `None` without the schema.
pub(crate) async fn applied_migrations(
    connection: &mut PgConnection,
) -> Result<Option<i64>, sqlx::Error> {
    if !has_migrations(&mut *connection).await? {
        return Ok(None);
    }
    sqlx::query_scalar("SELECT count(*) FROM polar_jobs._migrations WHERE success")
        .fetch_one(connection)
        .await
        .map(Some)
}

async fn has_migrations(executor: impl PgExecutor<'_>) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT to_regclass('polar_jobs._migrations') IS NOT NULL")
        .fetch_one(executor)
        .await
}
