//! Compares every night what was counted and reported with the readings.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::contract::{CatchUp, Queue, Scheduled, priority};
use crate::mirror::clock;
use crate::mirror::usage::prove;
use crate::{Context, Done, Error, Job};

/// How far back a night looks: two days, so that a missed night is made up for.
const SPAN: TimeDelta = TimeDelta::hours(48);
/// What closed this recently may still be on its way to Polar.
const UNDERWAY: TimeDelta = TimeDelta::hours(1);

/// Counts the windows of the last two days again. What it found is kept, for whoever measures: the next night
/// another process may run it.
#[derive(Debug, Serialize, Deserialize)]
pub struct ProveUsage {}

impl Job for ProveUsage {
    const KIND: &'static str = "prove_usage";
    const QUEUE: Queue = Queue::Bulk;
    const PRIORITY: i16 = priority::BACKFILL;
    const TIMEOUT: Duration = Duration::from_secs(1800);

    fn unique_key(&self) -> Option<String> {
        Some(Self::KIND.to_owned())
    }

    async fn run(self, context: &Context) -> Result<Done, Error> {
        let now = clock::now(&context.pool).await?;
        let difference = prove::difference(&context.pool, now - SPAN, now - UNDERWAY).await?;
        let faults = prove::chain_faults(&context.pool).await?;
        prove::keep(&context.pool, difference, faults.len()).await?;
        for fault in &faults {
            tracing::error!(fault, "the chain of usage windows is broken");
        }
        if !difference.is_zero() {
            tracing::error!(%difference, "usage recorded and usage reported differ; see polar-jobs usage prove");
        }
        Ok(Done::applied())
    }
}

impl Scheduled for ProveUsage {
    const CRON: &'static str = "40 3 * * *";
    const CATCH_UP: CatchUp = CatchUp::Latest;

    fn at(_: DateTime<Utc>) -> Self {
        Self {}
    }
}
