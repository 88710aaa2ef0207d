//! Compares every organization with Polar, night by night, and repairs what differs.
//!
//! Deliveries may be lost and people may change things at Polar by hand; then nothing tells us. One page
//! is one job: what it found, the jobs that repair it, and the job of the next page are committed with its
//! completion. So a run that stops goes on behind the last page, and never asks Polar faster than one call
//! at a time, in the least urgent class.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::comparison::Run;
use crate::contract::{
    Context, Done, Error, Job, NOT_CONFIGURED, NewJob, Queue, Scheduled, Verdict, priority,
};
use crate::mirror::differences;

/// One page of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconcile {
    /// When the run began; whom a run that repairs has compared since is not compared again.
    pub since: DateTime<Utc>,
    /// The page of Polar's customers that comes next, counted from 1; absent while organizations are
    /// left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<u32>,
}

impl Job for Reconcile {
    const KIND: &'static str = "reconcile";
    const QUEUE: Queue = Queue::Bulk;
    const PRIORITY: i16 = priority::BACKFILL;
    /// Ten organizations, of which one may have ten pages of members.
    const TIMEOUT: Duration = Duration::from_secs(600);

    /// Each run has its own key: merged into a page of an earlier run it would leave out everybody before that page.
    /// Two runs at once take turns, page by page, and neither compares what the other has compared.
    fn unique_key(&self) -> Option<String> {
        let since = self.since.to_rfc3339_opts(SecondsFormat::Micros, true);
        Some(format!("{}/{since}", Self::KIND))
    }

    fn ordering_key(&self) -> Option<String> {
        Some(Self::KIND.to_owned())
    }

    async fn run(self, context: &Context) -> Result<Done, Error> {
        let Some(polar) = &context.polar else {
            return Ok(Done::ignored(NOT_CONFIGURED));
        };
        let run = Run {
            pool: &context.pool,
            polar,
            self_organization: context.settings.self_organization,
            since: self.since,
            repair: true,
        };
        match self.page {
            None => self.organizations(context, &run).await,
            Some(page) => self.strangers(context, &run, page).await,
        }
    }
}

impl Reconcile {
    async fn organizations(self, context: &Context, run: &Run<'_>) -> Result<Done, Error> {
        let batch = run.next().await?;
        let next = NewJob::of(&Self {
            page: batch.is_last.then_some(1),
            ..self
        });
        let next = match batch.failure {
            None => next,
            Some(error) => match error.verdict() {
                Verdict::Wait { after, .. } => {
                    next.at(context.job.started_at + TimeDelta::from_std(after).unwrap_or_default())
                }
                _ => return Err(error),
            },
        };
        let mut transaction = context.begin().await?;
        let repairs = run.write(&mut transaction, batch.findings).await?;
        Ok(Done::applied()
            .then(repairs)
            .then([next])
            .within(transaction))
    }

    async fn strangers(self, context: &Context, run: &Run<'_>, page: u32) -> Result<Done, Error> {
        let strangers = run.strangers(page).await?;
        let mut transaction = context.begin().await?;
        strangers.write(&mut transaction).await?;
        if strangers.is_last {
            differences::close_gone(&mut transaction, self.since, run.self_organization).await?;
            return Ok(Done::applied().within(transaction));
        }
        let next = Self {
            page: Some(page + 1),
            ..self
        };
        Ok(Done::applied()
            .then([NewJob::of(&next)])
            .within(transaction))
    }
}

impl Scheduled for Reconcile {
    const CRON: &'static str = "40 2 * * *";

    fn at(tick: DateTime<Utc>) -> Self {
        Self {
            since: tick,
            page: None,
        }
    }
}
