//! Counts what was used since the last time, once.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::contract::{CatchUp, Scheduled, priority};
use crate::mirror::clock;
use crate::mirror::usage::{
    Uncounted, close_window, create_partitions, deletion_waits, horizon_holder, uncounted,
};
use crate::{Context, Done, Error, Job, NewJob, ReportUsage};

/// A transaction that is open longer than this is named to the operator.
const LONG_TRANSACTION: TimeDelta = TimeDelta::seconds(60);
/// How soon it looks again where a deletion waits for usage that may still be committed.
const DELETION_DELAY: Duration = Duration::from_secs(2);

/// Closes a window and freezes its counts. A run covers everything since the last one, so missed
/// ticks need no catching up; a deletion that waits for its last window starts one as well.
#[derive(Debug, Serialize, Deserialize)]
pub struct MeterUsage {}

impl Job for MeterUsage {
    const KIND: &'static str = "meter_usage";
    const PRIORITY: i16 = priority::METERING;
    /// A window that piled up, or holds history that was loaded, takes minutes to count. If that ran into the timeout
    /// every time, the window would grow for ever.
    const TIMEOUT: Duration = Duration::from_secs(1800);

    fn unique_key(&self) -> Option<String> {
        Some(Self::KIND.to_owned())
    }

    // A second one would wait for the first with a connection of its own.
    fn ordering_key(&self) -> Option<String> {
        self.unique_key()
    }

    async fn run(self, context: &Context) -> Result<Done, Error> {
        warn_of_long_transactions(context).await?;
        create_partitions(&context.pool).await?;
        let soon = clock::now(&context.pool).await? + DELETION_DELAY;
        let mut transaction = context.begin().await?;
        let closed = close_window(&mut transaction, context.settings.self_organization).await?;
        // Where billing is off nobody deletes, and nothing is in a hurry.
        let hurry = context.polar.is_some() && deletion_waits(&mut transaction).await?;
        let mut next = Vec::new();
        if hurry {
            next.push(NewJob::of(&Self {}).at(soon));
        }
        let Some(window) = closed else {
            let done = Done::ignored("nothing was recorded since the last window");
            return Ok(done.then(next).within(transaction));
        };
        tracing::info!(window_end = %window.end, readings = window.readings, "closed a usage window");
        metrics::counter!("polar_jobs_usage_counted_total")
            .increment(u64::try_from(window.readings).unwrap_or(0));
        // Freezing and moving the window commit together with this job and the one that sends.
        next.push(NewJob::of(&ReportUsage {}));
        Ok(Done::applied().then(next).within(transaction))
    }
}

impl Scheduled for MeterUsage {
    const CRON: &'static str = "*/5 * * * *";
    const CATCH_UP: CatchUp = CatchUp::Latest;

    fn at(_: DateTime<Utc>) -> Self {
        Self {}
    }
}

/// Names transactions that are open for long. What was written since they began is in no window until they end: nothing
/// is lost, but it is counted late, and only people can end them.
async fn warn_of_long_transactions(context: &Context) -> Result<(), Error> {
    let Some(holder) = horizon_holder(&context.pool).await? else {
        return Ok(());
    };
    if let Some(seen) = holder
        .seen
        .as_ref()
        .filter(|seen| seen.age > LONG_TRANSACTION)
    {
        tracing::warn!(
            pid = holder.pid,
            role = holder.role,
            application_name = holder.name,
            state = seen.state,
            age_seconds = seen.age.num_seconds(),
            "usage recorded since this transaction began waits for its end; end it, or its session"
        );
    } else if let Some(uncounted) = uncounted(&context.pool).await?.filter(Uncounted::is_late) {
        tracing::warn!(
            pid = holder.pid,
            role = holder.role,
            since = %uncounted.since,
            "usage is not counted: a transaction that this role may not see is still open"
        );
    }
    Ok(())
}
