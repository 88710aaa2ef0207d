//! How long a job waits for an idle worker: from its commit to the start of its handler.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use clap::Args;
use jobs::{Context, Done, Error, Job, NewJob, Registry};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;

use super::fixture::Fixture;
use super::percentile;
use crate::queue::enqueue;
use crate::queue::notifier::Notifier;
use crate::worker;

/// Says when it started: the note of its completion is the microsecond.
#[derive(Debug, Serialize, Deserialize)]
struct Stamp {}

impl Job for Stamp {
    const KIND: &'static str = "bench_stamp";

    async fn run(self, _: &Context) -> Result<Done, Error> {
        Ok(Done::ignored(now_micros().to_string()))
    }
}

/// What to measure.
#[derive(Args, Clone, Copy, Debug)]
pub struct Arguments {
    /// Jobs a second
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: u32,
    /// How long
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub seconds: u32,
    /// Without notifications, as behind a transaction-mode pooler
    #[arg(long)]
    pub poll: bool,
}

/// Enqueues jobs at an even rate beside an idle worker.
///
/// # Errors
/// If the database fails or a job is missing afterwards.
pub async fn run(url: &str, what: Arguments) -> anyhow::Result<Value> {
    let Arguments {
        rate,
        seconds,
        poll,
    } = what;
    let fixture = Fixture::new(url).await?;
    let (stop, stopped) = oneshot::channel::<()>();
    let settings = fixture.worker(Registry::new().job::<Stamp>(), 50, false);
    let worker = tokio::spawn(worker::run(settings, async { drop(stopped.await) }));
    tokio::time::sleep(Duration::from_secs(1)).await;
    // The notifier lives until the last job was seen.
    let notifier = Notifier::new(fixture.pool.clone(), fixture.database.pooler);
    let connection = fixture.database.connect().await?;
    // On a task, as whatever writes jobs: what is woken from elsewhere waits until another thread wakes up.
    let announced = (!poll).then(|| notifier.clone());
    let commits = tokio::spawn(pace(connection, rate, seconds, announced)).await??;
    wait_for(&fixture, commits.len()).await?;
    drop(stop);
    worker.await??;
    let mut waits = waits(&fixture, &commits).await?;
    waits.sort_unstable();
    let at = |share| percentile(&waits, share);
    Ok(json!({
        "bench": "latency", "rate": rate, "seconds": seconds, "notify": !poll, "jobs": waits.len(),
        "p50_ms": at(0.5), "p95_ms": at(0.95), "p99_ms": at(0.99), "max_ms": at(1.0),
    }))
}

async fn pace(
    mut connection: PgConnection,
    rate: u32,
    seconds: u32,
    notifier: Option<Notifier>,
) -> anyhow::Result<HashMap<i64, i64>> {
    let mut beat = tokio::time::interval(Duration::from_secs(1) / rate);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut commits = HashMap::new();
    for _ in 0..u64::from(rate) * u64::from(seconds) {
        beat.tick().await;
        let id = enqueue::insert_returning_id(&mut connection, &NewJob::of(&Stamp {}))
            .await?
            .context("a keyless job has an id")?;
        commits.insert(id, now_micros());
        if let Some(notifier) = &notifier {
            notifier.notify("default");
        }
    }
    connection.close().await?;
    Ok(commits)
}

async fn wait_for(fixture: &Fixture, jobs: usize) -> anyhow::Result<()> {
    for _ in 0..100 {
        let done = sqlx::query_scalar!(
            r#"SELECT count(*) AS "done!" FROM polar_jobs.jobs WHERE state = 'completed'"#
        )
        .fetch_one(&fixture.pool)
        .await?;
        if done.unsigned_abs() as usize >= jobs {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("the worker did not run all jobs within 10 s")
}

async fn waits(fixture: &Fixture, commits: &HashMap<i64, i64>) -> anyhow::Result<Vec<Duration>> {
    let starts = sqlx::query!(
        r#"SELECT id AS "id!", note AS "note!" FROM polar_jobs.jobs WHERE state = 'completed'"#
    )
    .fetch_all(&fixture.pool)
    .await?;
    let mut waits = Vec::with_capacity(starts.len());
    for row in starts {
        let start: i64 = row.note.parse()?;
        let commit = commits.get(&row.id).context("a job that nobody enqueued")?;
        waits.push(Duration::from_micros(
            (start - commit).max(0).unsigned_abs(),
        ));
    }
    ensure!(
        waits.len() == commits.len(),
        "{} of {} jobs were run",
        waits.len(),
        commits.len()
    );
    Ok(waits)
}

fn now_micros() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
