//! `polar-jobs migrate`

use anyhow::Context;
use chrono::{DateTime, Utc};
use sqlx::Connection;
use sqlx::migrate::MigrateError;

use super::{AppContext, Exit, Failure, connect, output};
use crate::schedule::{self, Timetable};
use crate::sqlstate::is_permission_missing;
use crate::{config::DatabaseUrl, migrate};

pub(super) async fn run(app: &AppContext) -> Result<Exit, Failure> {
    let applied = up_to_date(app.config.database()?).await?;
    let version = connect::newest_version();
    let migrations = output::counted(applied.migrations, "migration");
    output::line(&match applied {
        Applied { created: true, .. } => {
            format!("The schema polar_jobs was created: {migrations}, version {version}.")
        }
        Applied { migrations: 0, .. } => {
            format!("The schema polar_jobs is up to date (version {version}); nothing was missing.")
        }
        Applied { .. } => {
            format!(
                "The schema polar_jobs was brought up to date: {migrations}, version {version}."
            )
        }
    })?;
    Ok(Exit::Done)
}

/// A role that owns nothing yet needs one right in an empty database.
fn not_applied(error: MigrateError, database: &DatabaseUrl) -> anyhow::Error {
    let what = format!("the migrations cannot be applied to {database} (DATABASE_URL)");
    let may_not_create = match &error {
        MigrateError::Execute(refused) => {
            is_permission_missing(refused) && refused.to_string().contains("for database")
        }
        _ => false,
    };
    if may_not_create {
        return anyhow::anyhow!(
            "{what}: the role may not create the schema polar_jobs: let the database's owner GRANT CREATE ON DATABASE to it"
        );
    }
    anyhow::Error::new(error).context(what)
}

/// What a migration did.
pub(super) struct Applied {
    /// Whether there was no schema before.
    created: bool,
    /// How many steps were missing.
    migrations: i64,
}

/// Applies what is missing and tells the database which kinds and schedules this release knows, so
/// that SQL callers and lists know them before the first worker starts.
pub(super) async fn up_to_date(database: &DatabaseUrl) -> Result<Applied, Failure> {
    let mut guard = connect::connection(database).await?;
    let mut connection = connect::connection(database).await?;
    let before = connect::applied_migrations(&mut connection).await?;
    migrate::run_guarded(&mut guard, &mut connection)
        .await
        .map_err(|error| not_applied(error, database))?;
    let after = connect::applied_migrations(&mut connection).await?;
    guard.close().await?;
    let now: DateTime<Utc> = sqlx::query_scalar("SELECT clock_timestamp()")
        .fetch_one(&mut connection)
        .await?;
    connection.close().await?;
    let timetable = Timetable::of(&jobs::registry()).context("a schedule cannot be used")?;
    let pool = connect::lazy_pool(database, 1);
    schedule::declare(&pool, &timetable, now).await?;
    pool.close().await;
    Ok(Applied {
        created: before.is_none(),
        migrations: after.unwrap_or_default() - before.unwrap_or_default(),
    })
}
