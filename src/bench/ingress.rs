//! How many deliveries the front door takes: signed, 2 KiB, over real HTTP on loopback, each
//! acknowledged only after its commit, and counted in the table afterwards.
//!
//! The load comes from one thread of its own that speaks HTTP over bare sockets, so that the
//! measurement costs the machine as little as possible besides what is measured.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use secrecy::SecretString;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::sync::oneshot;

use self::load::{Load, Measured};
use super::stand::Stand;
use crate::ingress::{Ingress, IngressSettings, Metrics};

mod load;

/// The secret of this measurement; nothing else knows it.
const SECRET: &str = "polar-jobs bench ingress, nobody's secret";

/// Measures the ingress on a migrated database that is nobody's, with so many keep-alive
/// connections for so many seconds.
///
/// # Errors
/// If the database or the port cannot be had, an answer is not 202, or the rows found afterwards are
/// not as many as were acknowledged.
pub async fn run(database_url: &str, clients: usize, seconds: u64) -> anyhow::Result<Value> {
    let Stand { pool, database, .. } = Stand::new(database_url)
        .await
        .context("cannot reach the database of the measurement")?;
    let ingress = Ingress::bind(IngressSettings {
        bind: SocketAddr::from(([127, 0, 0, 1], 0)),
        webhook_secrets: vec![SecretString::from(SECRET)],
        app_token: None,
        pool: pool.clone(),
        database,
        metrics: Metrics::none(),
    })
    .await?;
    let load = Load {
        address: ingress.local_addr(),
        secret: SECRET,
        clients,
        duration: Duration::from_secs(seconds),
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(ingress.serve(async {
        let _either_way_it_is_time = stopped.await;
    }));
    let measured = generate(load).await?;
    let _server_is_there = stop.send(());
    server.await.context("the server died")?;
    report(&pool, clients, measured).await
}

/// Runs the load on a thread of its own.
async fn generate(load: Load) -> anyhow::Result<Measured> {
    let (done, result) = oneshot::channel();
    thread::Builder::new()
        .name("load".to_owned())
        .spawn(move || {
            let _nobody_waits_any_more = done.send(load.run());
        })?;
    result.await.context("the load generator died")?
}

async fn report(pool: &PgPool, clients: usize, measured: Measured) -> anyhow::Result<Value> {
    let Measured { elapsed, latencies } = measured;
    let accepted = latencies.len();
    ensure!(accepted > 0, "no delivery was accepted");
    let found = sqlx::query!(
        r#"SELECT (SELECT count(*) FROM polar_jobs.stored_events) AS "rows!",
                  (SELECT count(*) FROM polar_jobs.live_jobs) AS "jobs!""#
    )
    .fetch_one(pool)
    .await?;
    ensure!(
        usize::try_from(found.rows).is_ok_and(|rows| rows == accepted),
        "{accepted} deliveries were acknowledged, but {} rows are there",
        found.rows
    );
    Ok(json!({
        "bench": "ingress",
        "clients": clients,
        "seconds": rounded(elapsed.as_secs_f64()),
        "accepted": accepted,
        "accepted_per_second": (accepted as f64 / elapsed.as_secs_f64()).round(),
        "p50_ms": percentile(&latencies, 0.50),
        "p99_ms": percentile(&latencies, 0.99),
        "max_ms": percentile(&latencies, 1.0),
        "rows_found": found.rows,
        "jobs_found": found.jobs,
    }))
}

/// In milliseconds; `latencies` are sorted.
fn percentile(latencies: &[Duration], share: f64) -> f64 {
    let last = latencies.len().saturating_sub(1);
    let place = (last as f64 * share).round() as usize;
    rounded(
        latencies
            .get(place)
            .map_or(0.0, |latency| latency.as_secs_f64() * 1000.0),
    )
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// When a client stops.
fn deadline(duration: Duration) -> Instant {
    Instant::now() + duration
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_milliseconds_of_the_sorted_latencies() {
        let latencies: Vec<_> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(
            [0.0, 0.5, 0.99, 1.0].map(|share| percentile(&latencies, share) as u64),
            [1, 51, 99, 100]
        );
    }
}
