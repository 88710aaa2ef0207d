//! How fast a worker empties a queue of jobs that do nothing.

use anyhow::ensure;
use chrono::{DateTime, Utc};
use clap::Args;
use jobs::Registry;
use serde_json::{Value, json};

use super::fixture::Fixture;
use super::noop::Noop;
use super::{at_least_one, copy};
use crate::queue::enqueue;
use crate::worker;

/// Jobs per statement.
const CHUNK: usize = 1000;

/// What to measure.
#[derive(Args, Clone, Copy, Debug)]
pub struct Arguments {
    /// How many jobs
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub jobs: u64,
    /// Slots of the worker
    #[arg(long, default_value_t = 50, value_parser = at_least_one)]
    pub slots: usize,
    /// Other jobs that wait for a later day
    #[arg(long, default_value_t = 0)]
    pub waiting: u64,
    /// Other jobs that have ended
    #[arg(long, default_value_t = 0)]
    pub finished: u64,
    /// Give each job a unique and an ordering key
    #[arg(long)]
    pub keyed: bool,
}

/// Fills the tables, runs one worker until nothing is left, and reports: from the first claim until
/// the last statement that stores completions. Nobody looks meanwhile: to find out how much is left of a queue
/// costs Postgres more than to empty it.
///
/// # Errors
/// If the database fails or a job is missing afterwards.
pub async fn run(url: &str, what: Arguments) -> anyhow::Result<Value> {
    let fixture = Fixture::new(url).await?;
    fill(&fixture, what).await?;
    fixture.vacuum_and_checkpoint().await?;
    let settings = fixture.worker(Registry::new().job::<Noop>(), what.slots, true);
    let worker = worker::run(settings, std::future::pending());
    worker.await?;
    let Drained { begun, ended, done } = drained(&fixture).await?;
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

async fn fill(fixture: &Fixture, what: Arguments) -> anyhow::Result<()> {
    let mut connection = fixture.database.connect().await?;
    if what.finished > 0 {
        fixture.fill_history(what.finished).await?;
    }
    if what.waiting > 0 {
        let tomorrow = Utc::now() + chrono::Duration::days(1);
        let others = (0..what.waiting).map(Noop::row);
        copy::insert(&mut connection, Some(tomorrow), others).await?;
    }
    // As the product writes them, and not by COPY: that leaves none of their pages in the memory of Postgres.
    let job = if what.keyed { Noop::keyed } else { Noop::row };
    for from in (0..what.jobs).step_by(CHUNK) {
        let until = what.jobs.min(from + CHUNK as u64);
        let jobs: Vec<_> = (from..until).map(job).collect();
        enqueue::insert_all(&mut connection, &jobs).await?;
    }
    Ok(())
}

/// What the worker left.
struct Drained {
    begun: DateTime<Utc>,
    ended: DateTime<Utc>,
    /// The history that was there before, which names no worker, is not counted.
    done: u64,
}

async fn drained(fixture: &Fixture) -> anyhow::Result<Drained> {
    let row = sqlx::query!(
        r#"SELECT min(started_at) AS "begun!", max(finished_at) AS "ended!", count(*) AS "done!" FROM polar_jobs.jobs
            WHERE state = 'completed' AND worker IS NOT NULL"#
    )
    .fetch_one(&fixture.pool)
    .await?;
    Ok(Drained {
        begun: row.begun,
        ended: row.ended,
        done: row.done.unsigned_abs(),
    })
}
