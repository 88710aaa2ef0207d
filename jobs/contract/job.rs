//! The shape of a job: the value is the payload, the constants are its policy.

use std::future::Future;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Serialize, de::DeserializeOwned};

use super::{Context, Done, Error, Retry};

/// A unit of durable work.
///
/// Handlers run at least once: `run` must give the same end state when it is repeated, late or
/// out of order. So a payload carries ids, and `run` reads the state that is wanted now.
pub trait Job: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The name in the job table. Equal to the file's name; never used again for something else.
    const KIND: &'static str;
    /// The queue it waits in.
    const QUEUE: Queue = Queue::Default;
    /// Lower runs first; see [`priority`].
    const PRIORITY: i16 = priority::ENTITLEMENT;
    /// How often it is tried after failures, and after which delays.
    const RETRY: Retry = Retry::DEFAULT;
    /// An attempt that runs longer is cancelled and counts as a failure.
    const TIMEOUT: Duration = Duration::from_secs(60);
    /// Whether what its events ask for holds, at Polar or in the tables, once it is applied: then the sync lag of these
    /// events is measured.
    const SYNCS: bool = false;

    /// Among waiting jobs at most one has this key. A duplicate that arrives while one waits is merged into
    /// it: the job runs at the earlier of both times, with the more urgent priority, and answers for the
    /// events of both. Its payload is the waiting one's with the newcomer's fields over it, so a field that
    /// is only serialized where it is set (`#[serde(default, skip_serializing_if = ..)]`) survives every
    /// merge: that is how a reason to do the whole job is never lost to a job that had less to do.
    ///
    /// A duplicate that arrives while one runs is kept. When the running one must wait again, the duplicate
    /// is merged into it, so failures stay counted.
    fn unique_key(&self) -> Option<String> {
        None
    }

    /// Jobs with the same key run one at a time, in the order they were committed.
    fn ordering_key(&self) -> Option<String> {
        None
    }

    /// Does the work.
    ///
    /// # Errors
    /// The error says what should happen next; see [`Error::verdict`].
    fn run(self, context: &Context) -> impl Future<Output = Result<Done, Error>> + Send;
}

/// A job that the clock writes.
pub trait Scheduled: Job {
    /// Five cron fields, UTC: minute, hour, day of month, month, day of week.
    const CRON: &'static str;
    /// What becomes of ticks that nobody was there to see.
    const CATCH_UP: CatchUp = CatchUp::Latest;

    /// The job of one tick.
    fn at(tick: DateTime<Utc>) -> Self;
}

/// What becomes of ticks missed while no worker ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CatchUp {
    /// One job for the newest missed tick: enough where a run covers everything since the last one.
    Latest,
    /// Missed ticks are forgotten; the next one comes in its own time.
    Skip,
}

/// The queues of the job table. Few, so that an operator can keep them in mind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Queue {
    /// Everything that people wait for.
    Default,
    /// Mail, which may be slow.
    Mail,
    /// Backfill and nightly scans, which may wait.
    Bulk,
    /// Calls of the application, which may be down.
    App,
    /// The support desk, which may be slow or away for long.
    Support,
}

impl Queue {
    /// Every queue.
    pub const ALL: [Self; 5] = [
        Self::Default,
        Self::Mail,
        Self::Bulk,
        Self::Support,
        Self::App,
    ];

    /// The name in the job table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Mail => "mail",
            Self::Bulk => "bulk",
            Self::App => "app",
            Self::Support => "support",
        }
    }
}

/// Priorities: within a queue, lower runs first.
pub mod priority {
    /// What somebody paid for must not wait.
    pub const ENTITLEMENT: i16 = 0;
    /// People notice a late mail, but only later.
    pub const MAIL: i16 = 10;
    /// Usage is counted by the window; a minute does not matter.
    pub const METERING: i16 = 20;
    /// Whatever nobody waits for.
    pub const BACKFILL: i16 = 30;
}
