//! Brings to the support desk, every hour, what it does not hold as wanted although nobody works on it:
//! what came while no token was set, what was given up, whom a backfill brought.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::SyncSupportDesk;
use crate::contract::{
    CatchUp, Context, Done, Error, Job, NOT_CONFIGURED, NewJob, Queue, Scheduled, priority,
};
use crate::mirror::support_desk;
use crate::types::OrganizationId;

/// Organizations enqueued by one run.
const PAGE: usize = 500;

/// One page of what the support desk does not hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumeSupportDesk {
    /// Where it starts; absent for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<OrganizationId>,
}

impl Job for ResumeSupportDesk {
    const KIND: &'static str = "resume_support_desk";
    const QUEUE: Queue = Queue::Bulk;
    const PRIORITY: i16 = priority::BACKFILL;
    /// One pass over all members, on a server that may have other work.
    const TIMEOUT: Duration = Duration::from_secs(300);

    fn unique_key(&self) -> Option<String> {
        Some(Self::KIND.to_owned())
    }

    async fn run(self, context: &Context) -> Result<Done, Error> {
        if context.settings.support_desk.is_none() {
            return Ok(Done::ignored(NOT_CONFIGURED));
        }
        let page = support_desk::unsynced(
            &context.pool,
            self.after,
            context.settings.self_organization,
            i64::try_from(PAGE).unwrap_or(i64::MAX),
            SyncSupportDesk::KEYS,
        )
        .await?;
        let last = page.last().copied().filter(|_| page.len() == PAGE);
        let rest = last.map(|after| NewJob::of(&Self { after: Some(after) }));
        let sync = |organization| SyncSupportDesk::of(organization).with_priority(Self::PRIORITY);
        Ok(Done::applied().then(page.into_iter().map(sync)).then(rest))
    }
}

impl Scheduled for ResumeSupportDesk {
    const CRON: &'static str = "40 * * * *";
    const CATCH_UP: CatchUp = CatchUp::Latest;

    fn at(_: DateTime<Utc>) -> Self {
        Self::default()
    }
}
