//! Keeps the tables as small as what people still look at: drops old days of finished jobs, handled
//! events and counted readings, makes the partitions of the next days, deletes old ticks, unused locks of
//! keys and kept answers in small batches and invoices that were mailed, erases deleted organizations, and
//! folds old reports of usage into monthly sums.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::contract::{Context, Done, Error, Job, NewJob, Queue, Scheduled, priority};
use crate::mirror::api::requests;
use crate::mirror::prune::{self, Limits};
use crate::mirror::{clock, costs, erasure, former_lives, mails, usage};

/// Completed jobs stay readable for so many days, and so do ticks: most of them are a job's.
const COMPLETED_DAYS: i64 = 7;
/// Discarded and cancelled jobs, and events, stay readable for so many days.
const UNSUCCESSFUL_DAYS: i64 = 90;
/// Readings that Polar accounted for stay so many days.
const READING_DAYS: i64 = 35;
/// Reports stay so many days after they were sent; then their months' sums stay for ever.
const REPORT_DAYS: i64 = 90;
/// Personal data of a deleted organization goes after so many days: within 30, also where no worker ran
/// for a week.
const ERASURE_DAYS: i64 = 21;
/// What was erased within so many days is looked at once more.
const SWEEP_DAYS: i64 = 2;
/// Rows of each kind in one statement.
const BATCH: i32 = 2000;
/// Readings or reports in one statement; they are narrow.
const READINGS: i32 = 20_000;

/// Until the next try where somebody held a table: a dump, or a transaction that wrote to it.
const RETRY_DELAY: TimeDelta = TimeDelta::minutes(10);

/// Delete what is old by the clock of Postgres: a host whose clock is ahead would delete too early.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prune {
    /// Only what an earlier run had to leave because somebody held a table.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partitions_only: bool,
}

impl Job for Prune {
    const KIND: &'static str = "prune";
    const QUEUE: Queue = Queue::Bulk;
    const PRIORITY: i16 = priority::BACKFILL;
    const TIMEOUT: Duration = Duration::from_secs(1800);

    fn unique_key(&self) -> Option<String> {
        let key = match self.partitions_only {
            true => format!("{}/partitions", Self::KIND),
            false => Self::KIND.to_owned(),
        };
        Some(key)
    }

    /// Two runs at once would wait for each other's rows.
    fn ordering_key(&self) -> Option<String> {
        Some(Self::KIND.to_owned())
    }

    async fn run(self, context: &Context) -> Result<Done, Error> {
        let now = clock::now(&context.pool).await?;
        let completed = now - TimeDelta::days(COMPLETED_DAYS);
        let old = now - TimeDelta::days(UNSUCCESSFUL_DAYS);
        let limits = Limits {
            completed,
            unsuccessful: old,
            events: old,
        };
        let read = now - TimeDelta::days(READING_DAYS);
        let mut is_complete = prune::partitions(&context.pool, limits).await?;
        is_complete &= usage::prune(&context.pool, read).await?.is_some();
        let rest = (!is_complete).then(|| {
            NewJob::of(&Self {
                partitions_only: true,
            })
            .at(now + RETRY_DELAY)
        });
        if self.partitions_only {
            return Ok(Done::applied().then(rest));
        }
        prune::traces_of_events(&context.pool, BATCH).await?;
        prune::ticks(&context.pool, completed, BATCH).await?;
        prune::key_locks(&context.pool, BATCH).await?;
        while requests::prune(&context.pool, BATCH.into()).await? > 0 {}
        while usage::prune_ids(&context.pool, read, READINGS).await? > 0 {}
        while costs::prune(&context.pool, read, READINGS.into()).await? > 0 {}
        mails::skip_abandoned(&context.pool).await?;
        mails::prune_invoices(&context.pool, old).await?;
        // Before what only saves space: this one is owed to people.
        erase(context, now).await?;
        let reported = now - TimeDelta::days(REPORT_DAYS);
        while usage::fold(&context.pool, reported, READINGS).await? > 0 {}
        Ok(Done::applied().then(rest))
    }
}

async fn erase(context: &Context, now: DateTime<Utc>) -> Result<(), Error> {
    let before = now - TimeDelta::days(ERASURE_DAYS);
    let again = now - TimeDelta::days(SWEEP_DAYS);
    let due = erasure::due(&context.pool, before, again).await?;
    for organization in &due {
        let mut transaction = context.begin().await?;
        erasure::erase(&mut transaction, *organization).await?;
        transaction.commit().await?;
    }
    let former = former_lives::people(&context.pool, before).await?;
    let forgotten = former_lives::forget_customers(&context.pool, before, again).await?;
    if !due.is_empty() || !former.is_empty() || forgotten {
        erasure::sweep(&context.pool, &due, &former).await?;
    }
    // After the sweep: who still has a name is swept again tomorrow if this process stops in between.
    let mut transaction = context.begin().await?;
    former_lives::erase(&mut transaction, &former, before).await?;
    Ok(transaction.commit().await?)
}

impl Scheduled for Prune {
    const CRON: &'static str = "20 3 * * *";

    fn at(_: DateTime<Utc>) -> Self {
        Self::default()
    }
}
