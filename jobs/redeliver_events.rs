//! Asks Polar to send again what it gave up to deliver: after ten attempts within an hour it never tries
//! by itself.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use polar::OrAbsent;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::contract::{Context, Done, Error, Job, NOT_CONFIGURED, Queue, priority};
use crate::mirror::{clock, webhook_endpoint};
use crate::webhook_endpoints::Deliveries;

/// How far back it looks without a reason to look further.
const USUAL_SPAN: TimeDelta = TimeDelta::hours(24);

/// Ask for what failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedeliverEvents {
    /// From when on, if further back than usual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
}

impl Job for RedeliverEvents {
    const KIND: &'static str = "redeliver_events";
    const QUEUE: Queue = Queue::Bulk;
    const PRIORITY: i16 = priority::BACKFILL;
    const TIMEOUT: Duration = Duration::from_secs(1800);

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
        let usual = clock::now(&context.pool).await? - USUAL_SPAN;
        let since = self.since.map_or(usual, |since| since.min(usual));
        let webhooks = polar.webhook_endpoints();
        let ours = Deliveries::of(webhooks.all().await?, &[]);
        let mut failed: BTreeSet<(DateTime<Utc>, Uuid)> = BTreeSet::new();
        for endpoint in &ours.delivering {
            let attempts = webhooks.failed_attempts(endpoint.id, since).await?;
            let given_up = attempts.iter().filter(|one| one.event.is_given_up());
            failed.extend(given_up.map(|one| (one.event.created_at, one.event.id)));
        }
        // In the order in which they happened.
        let failed: Vec<Uuid> = failed.into_iter().map(|(_, event)| event).collect();
        let to_ask = webhook_endpoint::not_asked_lately(&context.pool, &failed).await?;
        for &event in &to_ask {
            webhooks.redeliver(event).await.or_absent()?;
            webhook_endpoint::asked(&context.pool, event).await?;
        }
        webhook_endpoint::forget_old(&context.pool).await?;
        if to_ask.is_empty() {
            return Ok(Done::ignored("nothing failed for good"));
        }
        tracing::info!(
            events = to_ask.len(),
            "Polar sends again what it had given up"
        );
        Ok(Done::applied())
    }
}
