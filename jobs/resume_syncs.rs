//! Brings in step again, every hour, what was given up for a reason that may have passed.
//!
//! A worker looks for it when it starts, but one that runs for weeks must not need a restart: a
//! token gets its scope back, an outage ends after the budget of a job was spent on it. The same goes for
//! cancellations that are still to be restored and for orders about the startup program: nothing else would show that
//! one is missing.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

use crate::contract::{
    CatchUp, Context, Done, Error, Job, NOT_CONFIGURED, NewJob, Queue, Scheduled, priority,
};
use crate::mirror::api::resumed;
use crate::mirror::startup_programs;
use crate::types::OrganizationId;
use crate::{RestoreCancellation, SyncStartupProgram, backlog};

/// Organizations enqueued by one run.
const PAGE: u16 = 500;
/// What was tried less than this ago is left for the next run, so that what always fails costs no more than a try an
/// hour.
const REST: Duration = Duration::from_secs(50 * 60);

/// One page of what is out of step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumeSyncs {
    /// Where it starts; absent for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<OrganizationId>,
}

impl Job for ResumeSyncs {
    const KIND: &'static str = "resume_syncs";
    const QUEUE: Queue = Queue::Bulk;
    const PRIORITY: i16 = priority::BACKFILL;

    /// A run that begins does not merge into the rest of an earlier one: it would leave out whoever came before that.
    fn unique_key(&self) -> Option<String> {
        let key = match self.after {
            Some(_) => format!("{}/rest", Self::KIND),
            None => Self::KIND.to_owned(),
        };
        Some(key)
    }

    fn ordering_key(&self) -> Option<String> {
        Some(Self::KIND.to_owned())
    }

    async fn run(self, context: &Context) -> Result<Done, Error> {
        if context.polar.is_none() {
            return Ok(Done::ignored(NOT_CONFIGURED));
        }
        let page = backlog::rested_page(&context.pool, self.after, PAGE, REST).await?;
        let rest = page
            .next
            .map(|after| NewJob::of(&Self { after: Some(after) }));
        let done = Done::applied().then(page.jobs).then(rest);
        match self.after {
            None => Ok(done.then(left_behind(&context.pool).await?)),
            Some(_) => Ok(done),
        }
    }
}

/// Returns the jobs for cancellations and invitations that were left unfinished. There are few, so they are not paged.
async fn left_behind(pool: &PgPool) -> Result<Vec<NewJob>, sqlx::Error> {
    let cancellations = resumed::left_behind(pool, PAGE.into()).await?.into_iter();
    let invitations = startup_programs::unfinished(pool, PAGE.into())
        .await?
        .into_iter();
    let restore =
        cancellations.map(|organization_id| NewJob::of(&RestoreCancellation { organization_id }));
    let invite =
        invitations.map(|organization_id| NewJob::of(&SyncStartupProgram { organization_id }));
    Ok(restore.chain(invite).collect())
}

impl Scheduled for ResumeSyncs {
    const CRON: &'static str = "25 * * * *";
    const CATCH_UP: CatchUp = CatchUp::Skip;

    fn at(_: DateTime<Utc>) -> Self {
        Self::default()
    }
}
