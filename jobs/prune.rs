//! Keeps the tables as small as what people still look at: drops old days of finished jobs and handled
//! events, makes the partitions of the next days, and deletes old ticks, unused locks of keys, and readings
//! that Polar accounted for in small batches.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::contract::{Context, Done, Error, Job, Queue, Scheduled, priority};
use crate::mirror::prune::{self, Limits};
use crate::mirror::{costs, usage};

/// Completed jobs stay readable for so many days, and so do ticks: most of them are a job's.
const COMPLETED_DAYS: i64 = 7;
/// Discarded and cancelled jobs, and events, stay readable for so many days.
const UNSUCCESSFUL_DAYS: i64 = 90;
/// Readings that Polar accounted for stay so many days.
const READING_DAYS: i64 = 35;
/// Rows of each kind in one statement.
const BATCH: i32 = 2000;
/// Readings in one statement; they are narrow.
const READINGS: i64 = 20_000;

/// Delete what was old at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prune {
    /// The time that ages are counted from.
    pub now: DateTime<Utc>,
}

impl Job for Prune {
    const KIND: &'static str = "prune";
    const QUEUE: Queue = Queue::Bulk;
    const PRIORITY: i16 = priority::BACKFILL;
    const TIMEOUT: Duration = Duration::from_secs(1800);

    fn unique_key(&self) -> Option<String> {
        Some(Self::KIND.to_owned())
    }

    async fn run(self, context: &Context) -> Result<Done, Error> {
        let completed = self.now - TimeDelta::days(COMPLETED_DAYS);
        let old = self.now - TimeDelta::days(UNSUCCESSFUL_DAYS);
        let limits = Limits {
            completed,
            unsuccessful: old,
            events: old,
        };
        prune::partitions(&context.pool, limits).await?;
        prune::traces_of_events(&context.pool, BATCH).await?;
        prune::ticks(&context.pool, completed, BATCH).await?;
        prune::key_locks(&context.pool, BATCH).await?;
        let settled = self.now - TimeDelta::days(READING_DAYS);
        while usage::prune(&context.pool, settled, READINGS).await? > 0 {}
        while costs::prune(&context.pool, settled, READINGS).await? > 0 {}
        Ok(Done::applied())
    }
}

impl Scheduled for Prune {
    const CRON: &'static str = "20 3 * * *";

    fn at(tick: DateTime<Utc>) -> Self {
        Self { now: tick }
    }
}
