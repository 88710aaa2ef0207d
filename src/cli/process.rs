//! A working process: the worker with its schedules, and the page for operators. `worker` is one of
//! these, and `dev` has one inside.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use sqlx::PgPool;

use super::clients::{job_settings, polar_client};
use super::operations_page::{OperationsPage, metrics_page};
use super::signals::Stop;
use super::{AppContext, Failure, connect};
use crate::config::{Config, DatabaseUrl};
use crate::queue::connect::{ConnectionBudget, QueueDatabase};
use crate::telemetry::catalogue::{self, Recorder};
use crate::telemetry::{Masker, Metrics, fleet};
use crate::worker::{self, Mask, QueueSlots, WorkerSettings};

/// How long running jobs may take to end; the rest of the 30 s that a stop may take is for requeueing the others and for
/// the last writes.
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
                let metrics = metrics_page(&self.metrics);
                tokio::spawn(page.serve(self.pool.clone(), metrics, stop.wait()))
            }),
        ];
        let settings = WorkerSettings {
            database: self.database,
            connections: ConnectionBudget::of(self.config.database_connections),
            pool: self.pool,
            registry: Arc::new(jobs::registry()),
            polar: self.polar,
            mail: self.config.mailer(),
            settings: Arc::new(job_settings(&self.config)?),
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

fn mask(masker: Masker) -> Mask {
    Arc::new(move |text| masker.mask(&text).into_owned())
}
