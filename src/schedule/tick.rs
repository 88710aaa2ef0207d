//! The rows behind the clock: one transaction per schedule that is due.
//!
//! A schedule that cannot be written does not hold up the others, and a schedule whose row says
//! another cron text belongs to a worker of another release, which knows it better.

use chrono::{DateTime, SubsecRound, Utc};
use jobs::contract::begin;
use sqlx::{PgConnection, PgExecutor, PgPool};

use super::timetable::{Line, Timetable};
use crate::queue::enqueue;

/// What came of one look at the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticked {
    /// Ticks that became a job here.
    pub written: u32,
    /// When the next tick is due; `None` without schedules.
    pub next: Option<DateTime<Utc>>,
}

/// Why a schedule could not be started by hand.
#[derive(Debug, thiserror::Error)]
pub enum RunNowError {
    /// There is no such schedule.
    #[error("there is no schedule {name}; known are: {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The database failed; nothing was enqueued.
    #[error("the schedule was not started: {0}")]
    Database(#[from] sqlx::Error),
}

/// Turns every tick that is due at `now` into one job, unless another worker did.
///
/// # Errors
/// If the database fails. Schedules after the failing one are still tried.
pub async fn tick(
    pool: &PgPool,
    timetable: &Timetable,
    now: DateTime<Utc>,
) -> Result<Ticked, sqlx::Error> {
    let (names, texts) = timetable.columns();
    // One transaction for both questions: an idle worker asks them every second.
    let mut looked = begin(pool).await?;
    let due = sqlx::query_scalar!(
        "SELECT s.name FROM polar_jobs.schedules s JOIN unnest($2::text[], $3::text[]) AS t (name, cron) USING (name, cron)
          WHERE s.next_tick <= $1 ORDER BY s.next_tick, s.name",
        now,
        &names as &[&str],
        &texts as &[&str],
    )
    .fetch_all(&mut *looked)
    .await?;
    let next = next_tick(&mut *looked, now).await?;
    looked.commit().await?;
    if due.is_empty() {
        return Ok(Ticked { written: 0, next });
    }
    let mut written = 0;
    let mut failure = None;
    for line in due.iter().filter_map(|name| timetable.line(name)) {
        match tick_one(pool, line, now).await {
            Ok(wrote) => written += u32::from(wrote),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    if let Some(error) = failure {
        return Err(error);
    }
    let next = next_tick(pool, now).await?;
    Ok(Ticked { written, next })
}

/// Of the ticks that are in the calendar: an operator may have moved one out of it.
async fn next_tick(
    executor: impl PgExecutor<'_>,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    sqlx::query_scalar!(
        "SELECT min(next_tick) FROM polar_jobs.schedules
          WHERE next_tick BETWEEN $1::timestamptz - interval '1 year' AND $1 + interval '5 years'",
        now,
    )
    .fetch_one(executor)
    .await
}

/// Tick, job and next tick in one transaction. `false` where another worker was there first, or
/// there was nothing to write.
async fn tick_one(pool: &PgPool, line: &Line, now: DateTime<Utc>) -> Result<bool, sqlx::Error> {
    let mut transaction = begin(pool).await?;
    let Some(row) = sqlx::query!(
        r#"SELECT greatest(next_tick, '2000-01-01Z') AS "next_tick!", paused_at IS NOT NULL AS "paused!" FROM polar_jobs.schedules
            WHERE name = $1 AND cron = $2 AND next_tick <= $3 FOR UPDATE SKIP LOCKED"#,
        line.name,
        line.text,
        now,
    )
    .fetch_optional(&mut *transaction)
    .await?
    else {
        return Ok(false);
    };
    let wanted = line
        .tick_to_write(row.next_tick, now)
        .filter(|_| !row.paused);
    let taken = match wanted {
        Some(tick) => write(&mut transaction, line, tick).await?.then_some(tick),
        None => None,
    };
    sqlx::query!(
        "UPDATE polar_jobs.schedules SET next_tick = $2, last_tick = coalesce($3, last_tick) WHERE name = $1",
        line.name,
        line.next_after(now),
        taken,
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(taken.is_some())
}

/// The row of a tick and its job. `false` where the tick has its row already.
async fn write(
    connection: &mut PgConnection,
    line: &Line,
    tick: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let taken = sqlx::query!(
        "INSERT INTO polar_jobs.schedule_ticks (schedule, tick) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        line.name,
        tick,
    )
    .execute(&mut *connection)
    .await?;
    if taken.rows_affected() == 0 {
        return Ok(false);
    }
    let job = enqueue::insert_returning_id(connection, &line.job_at(tick)).await?;
    sqlx::query!(
        "UPDATE polar_jobs.schedule_ticks SET job_id = $3 WHERE schedule = $1 AND tick = $2",
        line.name,
        tick,
        job,
    )
    .execute(connection)
    .await?;
    Ok(true)
}

/// Enqueues one job of a schedule now, whatever its row says. Returns the job's id,
/// or `None` where a waiting duplicate exists.
///
/// # Errors
/// If there is no such schedule, or the database fails.
pub async fn run_now(
    connection: &mut PgConnection,
    timetable: &Timetable,
    name: &str,
    now: DateTime<Utc>,
) -> Result<Option<i64>, RunNowError> {
    let line = timetable.line(name).ok_or_else(|| RunNowError::Unknown {
        name: name.to_owned(),
        known: timetable.columns().0.join(", "),
    })?;
    Ok(enqueue::insert_returning_id(connection, &line.job_at(now.trunc_subsecs(0))).await?)
}
