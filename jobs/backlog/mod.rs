//! What Polar has not confirmed: work that came while billing was off, or whose last try was in vain.
//!
//! Changes are applied to the mirror whatever the settings; the jobs that would tell Polar end as
//! "not configured". The mirror remembers what Polar confirmed, so whoever starts a worker with
//! billing on asks here for the rest. The same clears up after what was discarded for a reason that
//! has passed since: a scope that the token got back, a budget spent on an outage. What Polar refuses
//! as it is wanted now stays out until something changes. Unique keys make asking twice harmless.

pub mod resync;

use std::time::Duration;

use sqlx::PgPool;

use crate::contract::{NewJob, priority};
use crate::mirror::unsynced::{self, Keys};
use crate::types::OrganizationId;
use crate::{SyncCustomer, SyncMember};

/// A part of what Polar has not confirmed.
#[derive(Clone, Debug)]
pub struct Page {
    /// The jobs that report it: one per organization, which brings its members, grants and plan.
    pub jobs: Vec<NewJob>,
    /// Where the next page starts; `None` = this was the last.
    pub next: Option<OrganizationId>,
}

/// At most `limit` jobs for organizations after `after`. Memory stays as small as the page.
///
/// # Errors
/// If the database fails.
pub async fn page(
    pool: &PgPool,
    after: Option<OrganizationId>,
    limit: u16,
) -> Result<Page, sqlx::Error> {
    rested_page(pool, after, limit, Duration::ZERO).await
}

/// The same without what was tried in vain less than `rest` ago.
///
/// # Errors
/// If the database fails.
pub async fn rested_page(
    pool: &PgPool,
    after: Option<OrganizationId>,
    limit: u16,
    rest: Duration,
) -> Result<Page, sqlx::Error> {
    let keys = Keys {
        customers: SyncCustomer::KEYS,
        members: SyncMember::KEYS,
    };
    let organizations = unsynced::organizations(pool, after, i64::from(limit), keys, rest).await?;
    let full = organizations.len() == usize::from(limit);
    let next = organizations.last().copied().filter(|_| full);
    let job = |organization_id| {
        NewJob::of(&SyncCustomer { organization_id }).with_priority(priority::BACKFILL)
    };
    Ok(Page {
        jobs: organizations.into_iter().map(job).collect(),
        next,
    })
}
