//! How many deliveries the ingress takes: signed, 2 KiB, over real HTTP on loopback, each
//! acknowledged only after its commit, and counted in the table afterwards.
//!
//! The load comes from one thread of its own that speaks HTTP over bare sockets, so that the
//! measurement costs the machine as little as possible besides what is measured.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use secrecy::SecretString;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::sync::oneshot;

use self::api_callers::ApiCallers;
use self::load::Load;
pub(super) use self::load::Measured;
use super::fixture::Fixture;
use super::{at_least_one, percentile};
use crate::ingress::{Ingress, IngressSettings, MetricsPage};

mod api_callers;
mod load;

/// The secret of this measurement; nothing else knows it.
pub(super) const SECRET: &str = "polar-jobs bench ingress, nobody's secret";

/// What to measure.
#[derive(Args, Clone, Copy, Debug)]
pub struct Arguments {
    /// Clients that deliver at the same time
    #[arg(long, default_value_t = 64, value_parser = at_least_one)]
    pub clients: usize,
    /// How long
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: u64,
    /// Send deliveries as Polar sends them, of 1 to 10 KiB, instead of 2 KiB each
    #[arg(long)]
    pub recorded: bool,
    /// People who call the organizations API meanwhile, before a Polar that takes 50 ms
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=1000))]
    pub api_callers: u16,
}

impl Arguments {
    pub(super) fn bodies(&self) -> Bodies {
        match self.recorded {
            true => Bodies::Recorded,
            false => Bodies::Uniform,
        }
    }
}

/// Measures the ingress on a migrated database that is nobody's, over keep-alive connections, beside people who
/// call the organizations API.
///
/// # Errors
/// If the database or the port cannot be had, an answer is not 202, or the rows found afterwards are
/// not as many as were acknowledged.
pub async fn run(database_url: &str, what: Arguments) -> anyhow::Result<Value> {
    let Arguments {
        clients,
        seconds,
        api_callers,
        ..
    } = what;
    let bodies = what.bodies();
    let Fixture { pool, database, .. } = Fixture::new(database_url)
        .await
        .context("cannot reach the database of the measurement")?;
    let ingress = Ingress::bind(IngressSettings {
        bind: SocketAddr::from(([127, 0, 0, 1], 0)),
        webhook_secrets: vec![SecretString::from(SECRET)],
        app_token: None,
        pool: pool.clone(),
        database,
        metrics: MetricsPage::none(),
    })
    .await?;
    let address = ingress.local_addr();
    let callers = ApiCallers::prepare(&pool, api_callers.into()).await?;
    let ingress = ingress.with_routes(callers.router(&pool)?);
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(ingress.serve(async {
        let _either_way_it_is_time = stopped.await;
    }));
    let answers = callers.ask(address, deadline(Duration::from_secs(seconds)))?;
    let measured = generate(address, clients, seconds, bodies).await?;
    let answers = answers.await.context("the API did not answer")?;
    let _server_is_there = stop.send(());
    server.await.context("the server died")?;
    let mut result = report(&pool, clients, bodies, measured).await?;
    if let (1.., Some(result)) = (api_callers, result.as_object_mut()) {
        result.insert("api_callers".to_owned(), json!(api_callers));
        result.insert("api_answers".to_owned(), json!(answers.len()));
        result.insert(
            "api_p50_ms".to_owned(),
            json!(rounded(percentile(&answers, 0.50))),
        );
        result.insert(
            "api_p99_ms".to_owned(),
            json!(rounded(percentile(&answers, 0.99))),
        );
    }
    Ok(result)
}

/// Runs the load on a thread of its own.
pub(super) async fn generate(
    address: SocketAddr,
    clients: usize,
    seconds: u64,
    bodies: Bodies,
) -> anyhow::Result<Measured> {
    let load = Load {
        address,
        secret: SECRET,
        clients,
        duration: Duration::from_secs(seconds),
        bodies,
    };
    let (done, result) = oneshot::channel();
    thread::Builder::new()
        .name("load".to_owned())
        .spawn(move || {
            let _nobody_waits_any_more = done.send(load.run());
        })?;
    result.await.context("the load generator died")?
}

async fn report(
    pool: &PgPool,
    clients: usize,
    bodies: Bodies,
    measured: Measured,
) -> anyhow::Result<Value> {
    let accepted = measured.latencies.len();
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
        "bodies": bodies.name(),
        "seconds": rounded(measured.elapsed.as_secs_f64()),
        "accepted": accepted,
        "accepted_per_second": measured.per_second().round(),
        "p50_ms": rounded(measured.percentile(0.50)),
        "p99_ms": rounded(measured.percentile(0.99)),
        "max_ms": rounded(measured.percentile(1.0)),
        "rows_found": found.rows,
        "jobs_found": found.jobs,
    }))
}

/// What the deliveries look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bodies {
    /// A grant of 2 KiB each, for a customer of its own.
    Uniform,
    /// Deliveries as Polar sends them, of 1 to 10 KiB, each for a customer of its own.
    Recorded,
}

impl Bodies {
    fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Recorded => "recorded",
        }
    }
}

impl Measured {
    /// Accepted deliveries a second.
    pub(super) fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// In milliseconds.
    pub(super) fn percentile(&self, share: f64) -> f64 {
        percentile(&self.latencies, share)
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// When a client stops.
fn deadline(duration: Duration) -> Instant {
    Instant::now() + duration
}
