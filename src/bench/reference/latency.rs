//! From the commit of an insert to its claim, where the inserting client sends a NOTIFY of its own
//! after the commit, and a listener wakes the one that claims.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgListener};
use sqlx::{ConnectOptions, PgConnection, PgPool};
use tokio::sync::{Notify, mpsc};
use tokio::time::{MissedTickBehavior, timeout};

use super::{CLAIM, payload, prepare};

/// Waits of `rate` jobs a second for `seconds` seconds, sorted.
pub(super) async fn run(
    options: &PgConnectOptions,
    rate: u32,
    seconds: u32,
) -> anyhow::Result<Vec<Duration>> {
    let connection = prepare(options).await?;
    let woken = Arc::new(Notify::new());
    let listening = tokio::spawn(listen(options.clone(), Arc::clone(&woken)));
    let (tx, mut rx) = mpsc::unbounded_channel();
    let claiming = tokio::spawn(claim(options.clone(), woken, tx));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let notifier = options.connect().await?;
    let commits = tokio::spawn(pace(connection, notifier, rate, seconds)).await??;
    let mut waits = Vec::with_capacity(commits.len());
    while waits.len() < commits.len() {
        let (id, started) = timeout(Duration::from_secs(10), rx.recv())
            .await?
            .ok_or(sqlx::Error::WorkerCrashed)?;
        if let Some(committed) = commits.get(&id) {
            waits.push(started.saturating_duration_since(*committed));
        }
    }
    listening.abort();
    claiming.abort();
    waits.sort_unstable();
    Ok(waits)
}

async fn pace(
    mut connection: PgConnection,
    mut notifier: PgConnection,
    rate: u32,
    seconds: u32,
) -> Result<HashMap<i64, Instant>, sqlx::Error> {
    let mut beat = tokio::time::interval(Duration::from_secs(1) / rate);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut commits = HashMap::new();
    for n in 0..u64::from(rate) * u64::from(seconds) {
        beat.tick().await;
        let id: i64 =
            sqlx::query_scalar("INSERT INTO reference.jobs (payload) VALUES ($1) RETURNING id")
                .bind(payload(n))
                .fetch_one(&mut connection)
                .await?;
        commits.insert(id, Instant::now());
        sqlx::query("SELECT pg_notify('reference', '')")
            .execute(&mut notifier)
            .await?;
    }
    Ok(commits)
}

async fn listen(options: PgConnectOptions, woken: Arc<Notify>) -> Result<(), sqlx::Error> {
    let pool = PgPool::connect_lazy_with(options);
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen("reference").await?;
    loop {
        listener.recv().await?;
        woken.notify_one();
    }
}

async fn claim(
    options: PgConnectOptions,
    woken: Arc<Notify>,
    tx: mpsc::UnboundedSender<(i64, Instant)>,
) -> Result<(), sqlx::Error> {
    let mut connection = options.connect().await?;
    loop {
        let claimed: Vec<(i64, String)> = sqlx::query_as(CLAIM)
            .bind(100_i64)
            .fetch_all(&mut connection)
            .await?;
        let started = Instant::now();
        if claimed.is_empty() {
            // Polling as well: a notification may come before the look that it is for.
            drop(timeout(Duration::from_secs(1), woken.notified()).await);
        }
        for (id, _) in claimed {
            // The measurement may have ended.
            let _ended = tx.send((id, started));
        }
    }
}
