//! How fast jobs are written.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::ensure;
use clap::Args;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tokio::task::JoinSet;

use super::fixture::Fixture;
use super::noop::Noop;
use super::{at_least_one, copy};
use crate::queue::enqueue;
use crate::queue::notifier::Notifier;

/// What to measure.
#[derive(Args, Clone, Copy, Debug)]
pub struct Arguments {
    /// How many jobs
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub jobs: u64,
    /// Clients that write at the same time
    #[arg(long, default_value_t = 16, value_parser = at_least_one)]
    pub clients: usize,
    /// Write by COPY instead
    #[arg(long)]
    pub bulk: bool,
}

/// Writes small jobs and reports the rate.
///
/// # Errors
/// If the database fails or a job is missing afterwards.
pub async fn run(url: &str, what: Arguments) -> anyhow::Result<Value> {
    let Arguments {
        jobs,
        clients,
        bulk,
    } = what;
    let fixture = Fixture::new(url).await?;
    let (manner, seconds) = match bulk {
        false => ("single", by_insert(&fixture, jobs, clients).await?),
        true => ("bulk", by_copy(&fixture, jobs, clients).await?),
    };
    let found = sqlx::query_scalar!(r#"SELECT count(*) AS "found!" FROM polar_jobs.jobs"#)
        .fetch_one(&fixture.pool)
        .await?;
    ensure!(
        found.unsigned_abs() == jobs,
        "{found} of {jobs} jobs are in the table"
    );
    Ok(json!({
        "bench": "enqueue", "jobs": jobs, "clients": clients, "manner": manner,
        "seconds": seconds, "jobs_per_second": (jobs as f64 / seconds).round(),
    }))
}

async fn by_insert(fixture: &Fixture, jobs: u64, clients: usize) -> anyhow::Result<f64> {
    let notifier = Notifier::new(fixture.pool.clone(), fixture.database.pooler);
    let next = Arc::new(AtomicU64::new(0));
    let connections = connections(fixture, clients).await?;
    let begun = Instant::now();
    let mut writers = JoinSet::new();
    for mut connection in connections {
        let (next, notifier) = (Arc::clone(&next), notifier.clone());
        writers.spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= jobs {
                    return connection.close().await;
                }
                enqueue::insert(&mut connection, &Noop::row(n)).await?;
                notifier.notify("default");
            }
        });
    }
    while let Some(written) = writers.join_next().await {
        written??;
    }
    Ok(begun.elapsed().as_secs_f64())
}

/// One connection for each client.
async fn connections(fixture: &Fixture, clients: usize) -> Result<Vec<PgConnection>, sqlx::Error> {
    futures::future::try_join_all((0..clients).map(|_| fixture.database.connect())).await
}

async fn by_copy(fixture: &Fixture, jobs: u64, clients: usize) -> anyhow::Result<f64> {
    let share = jobs.div_ceil(clients as u64);
    let connections = connections(fixture, clients).await?;
    let begun = Instant::now();
    let mut writers = JoinSet::new();
    for (number, mut connection) in (0_u64..).zip(connections) {
        let range = (number * share).min(jobs)..((number + 1) * share).min(jobs);
        writers
            .spawn(async move { copy::insert(&mut connection, None, range.map(Noop::row)).await });
    }
    while let Some(written) = writers.join_next().await {
        written??;
    }
    Ok(begun.elapsed().as_secs_f64())
}
