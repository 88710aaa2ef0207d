//! A working process: the worker with its schedules, and the pages for operators. `worker` is one of
//! these, and `dev` has one inside.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use jobs::app_webhook::AppWebhook;
use jobs::contract::SupportDesk;
use secrecy::SecretString;
use sqlx::PgPool;
use tokio::net::TcpListener;

use super::signals::Stop;
use super::{AppContext, Failure, connect};
use crate::config::{Config, DatabaseUrl, PolarSettings};
use crate::ingress::{MetricsPage, operations_router, serve_operations};
use crate::limiter::{FleetRateLimiter, Limits, Timing};
use crate::queue::connect::{ConnectionBudget, QueueDatabase};
use crate::telemetry::catalogue::{self, Recorder};
use crate::telemetry::{Masker, Metrics, fleet};
use crate::worker::{self, Mask, QueueSlots, WorkerSettings};

/// The longest that one call to Polar may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// The same for people who wait, so that two in a row are answered within 10 s.
const API_CALL_TIMEOUT: Duration = Duration::from_secs(4);
/// How long such a call waits for budget.
const API_ACQUIRE_TIMEOUT: Duration = Duration::from_secs(1);
/// The longest that one call to the support desk may take.
const PLAIN_TIMEOUT: Duration = Duration::from_secs(10);
const USER_AGENT: &str = concat!("polar-jobs/", env!("CARGO_PKG_VERSION"));
/// How long running jobs may take to end; the rest of the 30 s that a stop may take is for handing
/// back and for the last writes.
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
        app: &AppContext,
        database: &DatabaseUrl,
        pool: PgPool,
        metrics: Metrics,
    ) -> Result<Self, Failure> {
        Ok(Self {
            config: app.config.clone(),
            masker: app.masker.clone(),
            database: connect::queue_database(database)?,
            polar: polar_client(&app.config.polar, &pool)?,
            pool,
            metrics,
        })
    }

    /// Works until `stop` is requested or, with `drain`, nothing is runnable.
    pub(crate) async fn work(self, work: Work, stop: &Stop) -> Result<(), Failure> {
        catalogue::start_at_zero(Recorder::Worker);
        let page = OperationsPage::bind(&self.config).await?;
        let beside = [
            Some(tokio::spawn(self.metrics.clone().keep())),
            Some(tokio::spawn(fleet::watch(self.pool.clone()))),
            page.map(|page| {
                let metrics = page_of(&self.metrics);
                tokio::spawn(page.serve(self.pool.clone(), metrics, stop.wait()))
            }),
        ];
        let mut job_settings = self.config.job_settings();
        job_settings.support_desk = support_desk(&self.config)?;
        let app_webhook = self.config.app_webhook.clone().map(AppWebhook::new);
        job_settings.app_webhook = app_webhook
            .transpose()
            .context("no client for APP_WEBHOOK_URL can be made")?;
        let settings = WorkerSettings {
            database: self.database,
            connections: ConnectionBudget::of(self.config.database_connections),
            pool: self.pool,
            registry: Arc::new(jobs::registry()),
            polar: self.polar,
            mail: self.config.mailer(),
            settings: Arc::new(job_settings),
            queues: work.queues,
            slots: self.config.worker_slots as usize,
            drain: work.drain,
            drain_timeout: DRAIN_TIMEOUT,
            mask: mask(self.masker),
        };
        let worked = worker::run(settings, stop.requested()).await;
        beside.iter().flatten().for_each(|task| task.abort());
        Ok(worked.context("the worker died")?)
    }
}

/// Where `METRICS_BIND` says that health, readiness and metrics are served.
pub(crate) struct OperationsPage(TcpListener);

impl OperationsPage {
    /// Takes the address; `None` where none is set.
    pub(crate) async fn bind(config: &Config) -> Result<Option<Self>, Failure> {
        let Some(address) = config.http.metrics_bind else {
            return Ok(None);
        };
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address} (METRICS_BIND)"))?;
        tracing::info!(address = %listener.local_addr()?, "health and metrics are served");
        Ok(Some(Self(listener)))
    }

    /// Serves it until a stop is requested.
    pub(crate) async fn serve(
        self,
        pool: PgPool,
        metrics: MetricsPage,
        stop: impl Future<Output = ()>,
    ) {
        serve_operations(self.0, operations_router(pool, metrics), stop).await;
    }
}

/// The metrics page, for whoever serves it.
pub(crate) fn page_of(metrics: &Metrics) -> MetricsPage {
    let metrics = metrics.clone();
    MetricsPage::new(move || metrics.render())
}

fn mask(masker: Masker) -> Mask {
    Arc::new(move |text| masker.mask(&text).into_owned())
}

/// A client behind the fleet's rate limiter, for jobs; `None` while billing is off.
pub(crate) fn polar_client(
    settings: &PolarSettings,
    pool: &PgPool,
) -> Result<Option<polar::Client>, Failure> {
    let limiter = |pool, limits| FleetRateLimiter::new(pool, limits, Timing::PRODUCTION);
    limited_client(settings, pool, limiter, CALL_TIMEOUT)
}

/// The same for a command, whose token may be another than the workers': what Polar says of it pauses nobody;
/// see [`refused_here`].
pub(crate) fn command_client(
    settings: &PolarSettings,
    pool: &PgPool,
) -> Result<Option<polar::Client>, Failure> {
    let limiter = |pool, limits| FleetRateLimiter::for_command(pool, limits, Timing::PRODUCTION);
    limited_client(settings, pool, limiter, CALL_TIMEOUT)
}

/// Why a command ends whose token Polar refuses, or that lacks a scope; `None` for any other error.
pub(crate) fn refused_here(error: &jobs::Error) -> Option<Failure> {
    match error {
        jobs::Error::Polar(polar::Error::Unauthorized { .. }) => Some(Failure::failed(
            "Polar refuses POLAR_ACCESS_TOKEN of this shell; the workers may have another",
        )),
        jobs::Error::Polar(polar::Error::MissingScope { scope, .. }) => Some(Failure::failed(
            format!("POLAR_ACCESS_TOKEN of this shell lacks the scope {scope}"),
        )),
        _ => None,
    }
}

/// Why a command ends whose call to Polar failed.
pub(crate) fn call_failed(error: jobs::Error) -> Failure {
    refused_here(&error).unwrap_or_else(|| Failure::Failed(error.into()))
}

/// The same as [`polar_client`] for requests of people, who do not wait: a call is made within a second or
/// not at all.
pub(crate) fn api_client(
    settings: &PolarSettings,
    pool: &PgPool,
) -> Result<Option<polar::Client>, Failure> {
    let timing = Timing {
        acquire_timeout: API_ACQUIRE_TIMEOUT,
        ..Timing::PRODUCTION
    };
    let limiter = |pool, limits| FleetRateLimiter::new(pool, limits, timing);
    limited_client(settings, pool, limiter, API_CALL_TIMEOUT)
}

fn limited_client(
    settings: &PolarSettings,
    pool: &PgPool,
    limiter: impl FnOnce(PgPool, Limits) -> FleetRateLimiter,
    call_timeout: Duration,
) -> Result<Option<polar::Client>, Failure> {
    let Some(billing) = &settings.billing else {
        return Ok(None);
    };
    let limiter = limiter(pool.clone(), settings.limits);
    let config = polar::ClientConfig {
        timeout: call_timeout,
        ..client_config(settings, billing.access_token.clone())
    };
    let client =
        polar::Client::new(config, Arc::new(limiter)).context("no client for Polar can be made")?;
    Ok(Some(client))
}

/// The support desk; `None` without `PLAIN_TOKEN`.
pub(crate) fn support_desk(config: &Config) -> Result<Option<SupportDesk>, Failure> {
    let Some(settings) = &config.plain else {
        return Ok(None);
    };
    let client = plain::Client::new(plain::ClientConfig {
        api_url: settings.api_url.clone(),
        token: settings.token.clone(),
        timeout: PLAIN_TIMEOUT,
        delays: plain::Delays::PRODUCTION,
        user_agent: USER_AGENT.to_owned(),
    })
    .context("no client for the support desk can be made")?;
    Ok(Some(SupportDesk {
        client,
        default_tier: settings.default_tier.clone(),
    }))
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
        user_agent: USER_AGENT.to_owned(),
    }
}
