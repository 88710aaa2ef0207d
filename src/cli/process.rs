//! A working process: the worker with its schedules, and the page for those who watch it. `worker`
//! is one of these, and `dev` has one inside.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use secrecy::SecretString;
use sqlx::PgPool;
use tokio::net::TcpListener;

use super::signals::Stop;
use super::{Failure, Surroundings, connect};
use crate::config::{Config, DatabaseUrl, PolarSettings};
use crate::gate::{FleetGate, Timing};
use crate::ingress::{self, operations_router};
use crate::queue::connect::{ConnectionBudget, QueueDatabase};
use crate::telemetry::{Masker, Metrics};
use crate::worker::{self, Mask, QueueSlots, WorkerSettings};

/// The longest that one call to Polar may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long running jobs may take to end; the rest of the 30 s promised for a stop is for handing back
/// and for the last writes.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// Everything that a working process is made of.
pub(crate) struct Process {
    config: Config,
    masker: Masker,
    database: QueueDatabase,
    pool: PgPool,
    polar: Option<polar::Client>,
    metrics: Metrics,
}

/// What it is to do.
pub(crate) struct Work {
    pub(crate) queues: Vec<QueueSlots>,
    pub(crate) drain: bool,
}

impl Process {
    /// Puts the parts together; nothing runs yet.
    pub(crate) fn new(
        surroundings: &Surroundings,
        database: &DatabaseUrl,
        pool: PgPool,
        metrics: Metrics,
    ) -> Result<Self, Failure> {
        Ok(Self {
            config: surroundings.config.clone(),
            masker: surroundings.masker.clone(),
            database: connect::queue_database(database)?,
            polar: polar_client(&surroundings.config.polar, &pool)?,
            pool,
            metrics,
        })
    }

    /// Works until `stop` is requested or, with `drain`, nothing is runnable.
    pub(crate) async fn work(self, work: Work, stop: &Stop) -> Result<(), Failure> {
        let page = self.page().await?;
        let kept = tokio::spawn(self.metrics.clone().keep());
        let served = page.map(|page| tokio::spawn(serve_page(page, self.router(), stop.clone())));
        let settings = WorkerSettings {
            database: self.database,
            connections: ConnectionBudget::of(self.config.database_connections),
            pool: self.pool,
            registry: Arc::new(jobs::registry()),
            polar: self.polar,
            settings: Arc::new(self.config.job_settings()),
            queues: work.queues,
            slots: self.config.worker_slots as usize,
            drain: work.drain,
            drain_timeout: DRAIN_TIMEOUT,
            mask: mask(self.masker),
        };
        let worked = worker::run(settings, stop.requested()).await;
        kept.abort();
        if let Some(served) = served {
            served.abort();
        }
        Ok(worked.context("the worker died")?)
    }

    async fn page(&self) -> Result<Option<TcpListener>, Failure> {
        let Some(address) = self.config.http.metrics_bind else {
            return Ok(None);
        };
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address} (METRICS_BIND)"))?;
        tracing::info!(address = %listener.local_addr()?, "health and metrics are served");
        Ok(Some(listener))
    }

    fn router(&self) -> axum::Router {
        operations_router(self.pool.clone(), page_of(&self.metrics))
    }
}

/// The metrics page, for whoever serves it.
pub(crate) fn page_of(metrics: &Metrics) -> ingress::Metrics {
    let metrics = metrics.clone();
    ingress::Metrics::new(move || metrics.render())
}

async fn serve_page(listener: TcpListener, router: axum::Router, stop: Stop) {
    let served = axum::serve(listener, router)
        .with_graceful_shutdown(stop.wait())
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the page for health and metrics is gone");
    }
}

fn mask(masker: Masker) -> Mask {
    Arc::new(move |text| masker.mask(&text).into_owned())
}

/// A client behind the fleet's gate; `None` while billing is off.
pub(crate) fn polar_client(
    settings: &PolarSettings,
    pool: &PgPool,
) -> Result<Option<polar::Client>, Failure> {
    let Some(billing) = &settings.billing else {
        return Ok(None);
    };
    let gate = FleetGate::open(pool.clone(), settings.rate_limit, Timing::PRODUCTION);
    let config = client_config(settings, billing.access_token.clone());
    let client =
        polar::Client::new(config, Arc::new(gate)).context("no client for Polar can be made")?;
    Ok(Some(client))
}

/// How Polar is called, by jobs and by `doctor` alike.
pub(crate) fn client_config(
    settings: &PolarSettings,
    access_token: SecretString,
) -> polar::ClientConfig {
    polar::ClientConfig {
        base_url: settings.api_url.as_str().trim_end_matches('/').to_owned(),
        access_token,
        version: settings.api_version.clone(),
        timeout: CALL_TIMEOUT,
        user_agent: concat!("polar-jobs/", env!("CARGO_PKG_VERSION")).to_owned(),
    }
}
