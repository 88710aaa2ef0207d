//! How fast a worker empties a queue of jobs that do nothing.

use std::time::Duration;

use anyhow::ensure;
use chrono::{DateTime, Utc};
use jobs::Registry;
use serde_json::{Value, json};

use super::fixture::Fixture;
use super::noop::Noop;
use crate::queue::bulk;
use crate::worker;

/// Between two looks at what is left.
const LOOK: Duration = Duration::from_millis(5);

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    /// Jobs to drain.
    pub jobs: u64,
    /// Slots of the worker.
    pub slots: usize,
    /// Other jobs that wait for a later day.
    pub waiting: u64,
    /// Other jobs that are finished.
    pub finished: u64,
    /// Give each job a unique and an ordering key.
    pub keyed: bool,
}

/// Fills the tables, runs one worker until nothing is left, and reports: from the first claim until
/// the last completion is stored and seen.
///
/// # Errors
/// If the database fails or a job is missing afterwards.
pub async fn run(url: &str, what: Drain) -> anyhow::Result<Value> {
    let fixture = Fixture::new(url).await?;
    fill(&fixture, what).await?;
    fixture.vacuum_and_checkpoint().await?;
    let settings = fixture.worker(Registry::new().job::<Noop>(), what.slots, true);
    let worker = worker::run(settings, std::future::pending());
    let (ended, worked) = tokio::join!(until_empty(&fixture), worker);
    let (ended, ()) = (ended?, worked?);
    let (begun, done) = first_claim(&fixture).await?;
    ensure!(
        done == what.jobs,
        "{done} of {} jobs were completed",
        what.jobs
    );
    let seconds = (ended - begun).as_seconds_f64();
    Ok(json!({
        "bench": "drain", "jobs": what.jobs, "slots": what.slots, "waiting": what.waiting, "finished": what.finished,
        "keyed": what.keyed,
        "seconds": seconds, "jobs_per_second": (what.jobs as f64 / seconds).round(),
    }))
}

async fn fill(fixture: &Fixture, what: Drain) -> anyhow::Result<()> {
    let mut connection = fixture.database.connect().await?;
    if what.finished > 0 {
        fixture.fill_history(what.finished).await?;
    }
    if what.waiting > 0 {
        let tomorrow = Utc::now() + chrono::Duration::days(1);
        bulk::insert(
            &mut connection,
            (0..what.waiting).map(|n| Noop::waiting(n, tomorrow)),
        )
        .await?;
    }
    let row = if what.keyed { Noop::keyed } else { Noop::row };
    bulk::insert(&mut connection, (0..what.jobs).map(row)).await?;
    Ok(())
}

/// When, by the database's clock, the last completion was seen to be stored.
async fn until_empty(fixture: &Fixture) -> Result<DateTime<Utc>, sqlx::Error> {
    let mut connection = fixture.database.connect().await?;
    loop {
        let now = sqlx::query_scalar!(
            r#"SELECT clock_timestamp() AS "now!"
                WHERE NOT EXISTS (SELECT 1 FROM polar_jobs.live_jobs
                                   WHERE queue = 'default' AND priority = 0 AND run_at <= now() AND NOT blocked)"#
        )
        .fetch_optional(&mut connection)
        .await?;
        match now {
            Some(now) => return Ok(now),
            None => tokio::time::sleep(LOOK).await,
        }
    }
}

/// Rows that a worker finished, the history that was there before apart (it names no worker).
async fn first_claim(fixture: &Fixture) -> anyhow::Result<(DateTime<Utc>, u64)> {
    let row = sqlx::query!(
        r#"SELECT min(started_at) AS "begun!", count(*) AS "done!" FROM polar_jobs.jobs
            WHERE state = 'completed' AND worker IS NOT NULL"#
    )
    .fetch_one(&fixture.pool)
    .await?;
    Ok((row.begun, row.done.unsigned_abs()))
}
