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
    /// A newer release decides; its rows were left alone.
    Outdated,
}

/// Declares this release's schedules and kinds. If it is the newest one that runs, new schedules appear
/// with their first tick after `now`, a changed cron text moves the next tick, and what it does not
/// know goes. A row that waits for a later tick than the next one is brought back to that: the database's clock
/// was ahead for a while. (To put a schedule off, pause it.) Rows that are right already are neither written nor waited for.
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
        // What is right already is left out: ON CONFLICT would lock it all the same, and wait for whoever holds it.
        "INSERT INTO polar_jobs.schedules (name, cron, next_tick)
         SELECT t.name, t.cron, t.next_tick
           FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS t (name, cron, next_tick)
          WHERE NOT EXISTS (SELECT FROM polar_jobs.schedules known
                             WHERE known.name = t.name AND known.cron = t.cron AND known.next_tick <= t.next_tick)
          ORDER BY t.name
         ON CONFLICT (name) DO UPDATE SET cron = excluded.cron, next_tick = excluded.next_tick",
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
