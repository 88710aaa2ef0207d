//! Where counting begins: at the installation, or later on command; and again after a restore.

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;

/// From now on readings recorded before `since` are history, billed elsewhere: kept and shown, not
/// reported. `None` = everything counts. Windows that are closed already stay as they are. False
/// where the tables were restored from another cluster and [`adopt`] must come first.
///
/// # Errors
/// If the database fails.
pub async fn begin(
    executor: impl PgExecutor<'_>,
    since: Option<DateTime<Utc>>,
) -> Result<bool, sqlx::Error> {
    let begun = sqlx::query!(
        "UPDATE polar_jobs.usage_cursor SET since = $1, written_by = pg_current_xact_id()::text::bigint
          WHERE xmin::text::bigint = (written_by & 4294967295)",
        since
    )
    .execute(executor)
    .await?;
    Ok(begun.rows_affected() == 1)
}

/// What an adoption found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// Readings that the next window counts.
    pub uncounted: i64,
    /// Readings that a window held which the copy knows, or lacks.
    pub counted: i64,
}

/// Makes metering go on in a copy of the database, once: in tables that were restored from another
/// cluster, and in a Postgres that was promoted or recovered. `None` where nothing was to be done.
/// Writers of usage wait while it runs.
///
/// `reported_until`: the end of the last window that Polar has, where the copy lacks it. What was
/// written before is taken as reported.
///
/// # Errors
/// If the database fails, or the time is still to come.
pub async fn adopt(
    executor: impl PgExecutor<'_>,
    reported_until: Option<DateTime<Utc>>,
) -> Result<Option<Adopted>, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT uncounted AS "uncounted?", counted AS "counted?" FROM polar_jobs.adopt_usage($1)"#,
        reported_until,
    )
    .fetch_optional(executor)
    .await?;
    Ok(row
        .and_then(|row| row.uncounted.zip(row.counted))
        .map(|(uncounted, counted)| Adopted { uncounted, counted }))
}
