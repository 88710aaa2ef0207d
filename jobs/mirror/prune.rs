//! Retention: the deletion itself is SQL, because the queue's tables belong to the queue.

use chrono::{DateTime, Utc};
use sqlx::PgPool;

/// Days for which partitions are made ahead: a worker may be away for a week.
const DAYS_AHEAD: i32 = 7;
/// Pages of a narrow table in one statement.
const PAGES: i32 = 1000;

/// What is old enough to go.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Completed jobs of days before.
    pub completed: DateTime<Utc>,
    /// Discarded and cancelled jobs of days before.
    pub unsuccessful: DateTime<Utc>,
    /// Handled events of days before.
    pub events: DateTime<Utc>,
}

/// Makes the partitions of the next days and drops those of old ones. Returns `false` where somebody held a table, as
/// a dump or a transaction that wrote to it: then some of it is left to do.
///
/// # Errors
/// If the database fails.
pub async fn partitions(pool: &PgPool, limits: Limits) -> Result<bool, sqlx::Error> {
    let created = sqlx::query_scalar!("SELECT polar_jobs.create_all_partitions($1)", DAYS_AHEAD)
        .fetch_one(pool)
        .await?;
    let mut is_complete = created == Some(true);
    for (table, before) in [
        ("completed_jobs", limits.completed),
        ("unsuccessful_jobs", limits.unsuccessful),
    ] {
        let dropped =
            sqlx::query_scalar!("SELECT polar_jobs.drop_partitions($1, $2)", table, before)
                .fetch_one(pool)
                .await?;
        is_complete &= dropped.is_some();
    }
    let dropped = sqlx::query_scalar!("SELECT polar_jobs.drop_old_events($1)", limits.events)
        .fetch_one(pool)
        .await?;
    Ok(is_complete && dropped.is_some())
}

/// Deletes what belonged to events that are gone: their names and how they ended.
///
/// # Errors
/// If the database fails.
pub async fn traces_of_events(pool: &PgPool, batch: i32) -> Result<(), sqlx::Error> {
    let mut page = Some(0);
    while let Some(from) = page {
        page = sqlx::query_scalar!("SELECT polar_jobs.prune_event_ids($1, $2)", from, PAGES)
            .fetch_one(pool)
            .await?;
    }
    let ends =
        || sqlx::query_scalar!("SELECT polar_jobs.prune_event_ends($1)", batch).fetch_one(pool);
    while ends().await? > Some(0) {}
    Ok(())
}

/// Deletes ticks before a time; the newest tick of a schedule stays.
///
/// # Errors
/// If the database fails.
pub async fn ticks(pool: &PgPool, before: DateTime<Utc>, batch: i32) -> Result<(), sqlx::Error> {
    let ticks = || {
        sqlx::query_scalar!("SELECT polar_jobs.prune_ticks($1, $2)", before, batch).fetch_one(pool)
    };
    while ticks().await? > Some(0) {}
    Ok(())
}

/// Deletes the locks of keys that nobody holds.
///
/// # Errors
/// If the database fails.
pub async fn key_locks(pool: &PgPool, batch: i32) -> Result<(), sqlx::Error> {
    let mut after = Some(String::new());
    while let Some(key) = after {
        after = sqlx::query_scalar!(
            "SELECT last FROM polar_jobs.prune_key_locks($1, $2)",
            key,
            batch
        )
        .fetch_one(pool)
        .await?;
    }
    Ok(())
}
