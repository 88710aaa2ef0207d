//! Brings the rows of schedules and kinds in line with the newest release that runs.

use chrono::{DateTime, Utc};
use jobs::contract::begin;
use sqlx::{PgConnection, PgPool};

use super::timetable::Timetable;

/// What came of a declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declared {
    /// The rows are as this release declares them.
    Newest,
    /// A newer release has the say; its rows were left alone.
    Outdated,
}

/// Declares this release's schedules and kinds. If it is the newest one that runs, new schedules appear
/// with their first tick after `now`, a changed cron text moves the next tick, and what it does not
/// know goes; rows that are right already are not written.
///
/// # Errors
/// If the database fails; then nothing is changed.
pub async fn declare(
    pool: &PgPool,
    timetable: &Timetable,
    now: DateTime<Utc>,
) -> Result<Declared, sqlx::Error> {
    let mut transaction = begin(pool).await?;
    let newest = timetable.release().announce(&mut transaction).await?;
    timetable.kinds().write(&mut transaction, newest).await?;
    if newest {
        write(&mut transaction, timetable, now).await?;
    }
    transaction.commit().await?;
    Ok(if newest {
        Declared::Newest
    } else {
        Declared::Outdated
    })
}

async fn write(
    transaction: &mut PgConnection,
    timetable: &Timetable,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let (names, texts) = timetable.columns();
    let lines = timetable.lines().iter();
    let next: Vec<DateTime<Utc>> = lines.map(|line| line.next_after(now)).collect();
    sqlx::query!(
        "INSERT INTO polar_jobs.schedules AS known (name, cron, next_tick)
         SELECT name, cron, next_tick FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS t (name, cron, next_tick)
          ORDER BY name
         ON CONFLICT (name) DO UPDATE SET cron = excluded.cron, next_tick = excluded.next_tick
          WHERE known.cron <> excluded.cron",
        &names as &[&str],
        &texts as &[&str],
        &next,
    )
    .execute(&mut *transaction)
    .await?;
    sqlx::query!(
        "DELETE FROM polar_jobs.schedules WHERE name <> ALL ($1::text[])",
        &names as &[&str]
    )
    .execute(transaction)
    .await
    .map(drop)
}
