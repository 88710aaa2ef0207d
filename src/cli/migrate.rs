//! `polar-jobs migrate`

use anyhow::Context;
use chrono::{DateTime, Utc};
use sqlx::Connection;

use super::{AppContext, Exit, Failure, connect, output};
use crate::schedule::{self, Timetable};
use crate::{config::DatabaseUrl, migrate};

pub(super) async fn run(app: &AppContext) -> Result<Exit, Failure> {
    up_to_date(app.config.database()?).await?;
    output::line(&format!(
        "The schema polar_jobs is up to date (version {}).",
        connect::newest_version()
    ))?;
    Ok(Exit::Done)
}

/// Applies what is missing and tells the database which kinds and schedules this release knows, so
/// that SQL callers and lists know them before the first worker starts.
pub(super) async fn up_to_date(database: &DatabaseUrl) -> Result<(), Failure> {
    let mut guard = connect::connection(database).await?;
    let mut connection = connect::connection(database).await?;
    migrate::run_guarded(&mut guard, &mut connection)
        .await
        .context("the migrations cannot be applied")?;
    guard.close().await?;
    let now: DateTime<Utc> = sqlx::query_scalar("SELECT clock_timestamp()")
        .fetch_one(&mut connection)
        .await?;
    connection.close().await?;
    let timetable = Timetable::of(&jobs::registry()).context("a schedule cannot be used")?;
    let pool = connect::lazy_pool(database, 1);
    schedule::declare(&pool, &timetable, now).await?;
    pool.close().await;
    Ok(())
}
