//! Looks every ten minutes whether Polar still delivers to us.
//!
//! Polar disables an endpoint after ten failed events, and does not even record what happens from then
//! on. Nobody would notice: no delivery looks like a quiet day. So it is said aloud as long as it lasts,
//! and once Polar delivers again, what failed is asked for, grants and subscriptions of every organization
//! are, and a comparison finds what else was changed there.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::contract::{
    CatchUp, Context, Done, Error, Job, NOT_CONFIGURED, NewJob, Queue, Scheduled, priority,
};
use crate::mirror::{clock, webhook_endpoint};
use crate::webhook_endpoints::{Deliveries, WEBHOOK_ROUTE};
use crate::{Reconcile, RedeliverEvents, ResumeSyncs};

/// Look once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchEndpoint {}

impl Job for WatchEndpoint {
    const KIND: &'static str = "watch_endpoint";
    const QUEUE: Queue = Queue::Bulk;
    const PRIORITY: i16 = priority::METERING;

    fn unique_key(&self) -> Option<String> {
        Some(Self::KIND.to_owned())
    }

    fn ordering_key(&self) -> Option<String> {
        self.unique_key()
    }

    async fn run(self, context: &Context) -> Result<Done, Error> {
        let Some(polar) = &context.polar else {
            return Ok(Done::ignored(NOT_CONFIGURED));
        };
        let endpoints = polar.webhook_endpoints().all().await?;
        let found = Deliveries::of(endpoints, &context.settings.webhook_events);
        let enabled = !found.delivering.is_empty();
        let now = clock::now(&context.pool).await?;
        let mut transaction = context.begin().await?;
        let gap_since =
            webhook_endpoint::note(&mut transaction, enabled, &found.missing_events).await?;
        if !enabled {
            tracing::error!(
                since = gap_since.map(tracing::field::display),
                "Polar delivers nothing to us and keeps nothing for later: no endpoint ends in {WEBHOOK_ROUTE}, is enabled and of the format raw; `polar-jobs endpoint show` says more"
            );
            return Ok(Done::applied().within(transaction));
        }
        if !found.missing_events.is_empty() {
            tracing::error!(
                events = found.missing_events.join(", "),
                "our webhook endpoint is not subscribed to events that we handle; `polar-jobs endpoint enable` subscribes it"
            );
        }
        let mut next = vec![NewJob::of(&RedeliverEvents { since: gap_since })];
        if let Some(since) = gap_since.filter(|_| found.missing_events.is_empty()) {
            let organizations = webhook_endpoint::close_gap(&mut transaction).await?;
            tracing::warn!(%since, organizations, "Polar delivers everything again; what happened meanwhile is asked for");
            next.push(NewJob::of(&ResumeSyncs::default()));
            next.push(NewJob::of(&Reconcile {
                since: now,
                page: None,
            }));
        }
        Ok(Done::applied().then(next).within(transaction))
    }
}

impl Scheduled for WatchEndpoint {
    const CRON: &'static str = "*/10 * * * *";
    const CATCH_UP: CatchUp = CatchUp::Latest;

    fn at(_: DateTime<Utc>) -> Self {
        Self {}
    }
}
