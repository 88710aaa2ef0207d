//! Bare inserts: one commit each, shared commits, or COPY.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinSet;

use super::{payload, prepare};

/// Jobs per statement where commits are shared.
const GROUP: usize = 512;
/// Writers where commits are shared: one flushes while the other fills its statement.
const WRITERS: usize = 2;
/// Jobs per COPY.
const COPY: u64 = 1000;

/// A payload, and whom to tell that it is stored.
type Waiting = (String, oneshot::Sender<()>);

/// Rows per second of `jobs` inserts by `clients`, each its own commit.
pub(super) async fn single(
    options: &PgConnectOptions,
    jobs: u64,
    clients: usize,
) -> Result<f64, sqlx::Error> {
    prepare(options).await?;
    let next = Arc::new(AtomicU64::new(0));
    let mut connections = Vec::new();
    for _ in 0..clients {
        connections.push(options.connect().await?);
    }
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

/// The same, where callers that arrive while a commit is under way share the next one.
pub(super) async fn shared(
    options: &PgConnectOptions,
    jobs: u64,
    clients: usize,
) -> Result<f64, sqlx::Error> {
    prepare(options).await?;
    let (tx, rx) = mpsc::channel::<Waiting>(4096);
    let rx = Arc::new(Mutex::new(rx));
    let mut tasks = JoinSet::new();
    for _ in 0..WRITERS {
        let connection = options.connect().await?;
        tasks.spawn(write_groups(connection, Arc::clone(&rx)));
    }
    let next = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    for _ in 0..clients {
        let (next, tx) = (Arc::clone(&next), tx.clone());
        tasks.spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= jobs {
                    return Ok(());
                }
                let (stored_tx, stored_rx) = oneshot::channel();
                let sent = tx.send((payload(n), stored_tx)).await.is_ok();
                if !sent || stored_rx.await.is_err() {
                    return Err(sqlx::Error::WorkerCrashed);
                }
            }
        });
    }
    drop(tx);
    joined(tasks).await?;
    Ok(jobs as f64 / begun.elapsed().as_secs_f64())
}

async fn write_groups(
    mut connection: PgConnection,
    rx: Arc<Mutex<mpsc::Receiver<Waiting>>>,
) -> Result<(), sqlx::Error> {
    let mut group = Vec::new();
    while rx.lock().await.recv_many(&mut group, GROUP).await > 0 {
        let (payloads, callers): (Vec<String>, Vec<_>) = group.drain(..).unzip();
        sqlx::query("INSERT INTO reference.jobs (payload) SELECT unnest($1::text[])")
            .bind(payloads)
            .execute(&mut connection)
            .await?;
        // A caller that has gone needs no answer.
        callers.into_iter().for_each(|caller| {
            let _gone = caller.send(());
        });
    }
    Ok(())
}

/// The same by COPY.
pub(super) async fn bulk(
    options: &PgConnectOptions,
    jobs: u64,
    clients: usize,
) -> Result<f64, sqlx::Error> {
    prepare(options).await?;
    let next = Arc::new(AtomicU64::new(0));
    let mut connections = Vec::new();
    for _ in 0..clients {
        connections.push(options.connect().await?);
    }
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

/// Waits for all; the first failure ends it.
pub(super) async fn joined(mut tasks: JoinSet<Result<(), sqlx::Error>>) -> Result<(), sqlx::Error> {
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(|_| sqlx::Error::WorkerCrashed)??;
    }
    Ok(())
}
