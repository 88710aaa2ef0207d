//! The schema, embedded: applied by `polar-jobs migrate`, safe from several processes at once, with
//! a migrations table of its own inside our schema so that an application's migrations never meet it.

use std::borrow::Cow;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{Connection, PgConnection, PgPool};

/// How often whoever finds others at it looks again.
const NEXT_TRY: Duration = Duration::from_millis(200);

/// The embedded migrations.
#[must_use]
pub fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("./migrations");
    migrator.table_name = Cow::Borrowed("polar_jobs._migrations");
    migrator.create_schemas = Cow::Borrowed(&[Cow::Borrowed("polar_jobs")]);
    migrator
}

/// Applies what is missing.
///
/// # Errors
/// If the database cannot be reached, a migration fails, or the schema is newer than this program.
pub async fn run(pool: &PgPool) -> Result<(), MigrateError> {
    let mut connection = pool.acquire().await?;
    run_on(&mut connection).await
}

/// The same with a second connection that keeps others out meanwhile. The migrator's own lock belongs
/// to a session, and behind a transaction-mode pooler there is none: the lock would stay with whatever
/// server connection it was taken on, and the next migration would wait for it for ever.
///
/// # Errors
/// As [`run`].
pub async fn run_guarded(
    guard: &mut PgConnection,
    connection: &mut PgConnection,
) -> Result<(), MigrateError> {
    loop {
        let mut alone = guard.begin().await?;
        // It stands still for as long as the migrations take.
        sqlx::query(
            "SELECT set_config(name, '0', true) FROM pg_catalog.pg_settings
              WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')",
        )
        .execute(&mut *alone)
        .await?;
        if try_lock(&mut alone).await? {
            migrator().set_locking(false).run(&mut *connection).await?;
            create_partitions(connection).await?;
            return Ok(alone.rollback().await?);
        }
        // Whoever waits holds no server connection: the one whose turn it is needs a second.
        alone.rollback().await?;
        tokio::time::sleep(NEXT_TRY).await;
    }
}

async fn try_lock(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let lock = "SELECT pg_try_advisory_xact_lock(hashtextextended('polar_jobs.migrate', 0))";
    sqlx::query_scalar(lock).fetch_one(connection).await
}

/// The same on one connection that the caller opened.
///
/// # Errors
/// As [`run`].
pub async fn run_on(connection: &mut PgConnection) -> Result<(), MigrateError> {
    migrator().run(&mut *connection).await?;
    create_partitions(connection).await
}

/// Makes the partitions of the next days, which the daily prune job does from then on. Where somebody holds
/// a table they are made later.
async fn create_partitions(connection: &mut PgConnection) -> Result<(), MigrateError> {
    sqlx::query("SELECT polar_jobs.create_all_partitions()")
        .execute(connection)
        .await?;
    Ok(())
}

/// The same by URL.
///
/// # Errors
/// As [`run`].
pub async fn run_url(url: &str) -> Result<(), MigrateError> {
    let mut connection = PgConnection::connect(url).await?;
    run_on(&mut connection).await?;
    connection.close().await?;
    Ok(())
}
