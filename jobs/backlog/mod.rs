//! What Polar has not heard: work that came while billing was off, or that was given up.
//!
//! Changes are applied to the mirror whatever the settings; the jobs that would tell Polar end as
//! "not configured". The mirror remembers what Polar confirmed, so whoever starts a worker with
//! billing on asks here for the rest (contract 8, "Billing off"). Unique keys make asking twice
//! harmless.

use sqlx::PgPool;

use crate::contract::{NewJob, priority};
use crate::mirror::unsynced;
use crate::terms::OrganizationId;
use crate::{SyncCustomer, SyncMember};

/// A part of what Polar has not heard.
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
    let keys = (SyncCustomer::KEYS, SyncMember::KEYS);
    let organizations = unsynced::organizations(pool, after, i64::from(limit), keys).await?;
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
