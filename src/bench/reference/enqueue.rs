//! Bare inserts: one commit each, or COPY.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};
use tokio::task::JoinSet;

use super::{payload, prepare};

/// Jobs per COPY.
const COPY: u64 = 1000;

/// Rows per second of `jobs` inserts by `clients`, each its own commit.
pub(super) async fn single(
    options: &PgConnectOptions,
    jobs: u64,
    clients: usize,
) -> Result<f64, sqlx::Error> {
    let connections = connections(options, clients).await?;
    let next = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let mut writers = JoinSet::new();
    for mut connection in connections {
        let next = Arc::clone(&next);
        writers.spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= jobs {
                    return Ok::<_, sqlx::Error>(());
                }
                sqlx::query("INSERT INTO reference.jobs (payload) VALUES ($1)")
                    .bind(payload(n))
                    .execute(&mut connection)
                    .await?;
            }
        });
    }
    joined(writers).await?;
    Ok(jobs as f64 / begun.elapsed().as_secs_f64())
}

/// The same by COPY.
pub(super) async fn bulk(
    options: &PgConnectOptions,
    jobs: u64,
    clients: usize,
) -> Result<f64, sqlx::Error> {
    let connections = connections(options, clients).await?;
    let next = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let mut writers = JoinSet::new();
    for mut connection in connections {
        let next = Arc::clone(&next);
        writers.spawn(async move {
            loop {
                let from = next.fetch_add(COPY, Ordering::Relaxed);
                if from >= jobs {
                    return Ok::<_, sqlx::Error>(());
                }
                let mut lines = String::new();
                for n in from..(from + COPY).min(jobs) {
                    lines.push_str(&payload(n));
                    lines.push('\n');
                }
                let mut copy = connection
                    .copy_in_raw("COPY reference.jobs (payload) FROM STDIN")
                    .await?;
                copy.send(lines.into_bytes()).await?;
                copy.finish().await?;
            }
        });
    }
    joined(writers).await?;
    Ok(jobs as f64 / begun.elapsed().as_secs_f64())
}

/// One connection for each client, to empty tables.
async fn connections(
    options: &PgConnectOptions,
    clients: usize,
) -> Result<Vec<PgConnection>, sqlx::Error> {
    prepare(options).await?;
    futures::future::try_join_all((0..clients).map(|_| options.connect())).await
}

/// Waits for all; the first failure ends it.
pub(super) async fn joined(mut tasks: JoinSet<Result<(), sqlx::Error>>) -> Result<(), sqlx::Error> {
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(|_| sqlx::Error::WorkerCrashed)??;
    }
    Ok(())
}
