//! Everything of an organization, asked for again by a person who does not trust what is held.

use sqlx::{PgConnection, PgPool};

use crate::contract::{NewJob, priority};
use crate::mirror::resync;
use crate::types::OrganizationId;
use crate::{ApplyBenefits, SyncCustomer, SyncMember, SyncSubscription, SyncSupportDesk};

/// Organizations after `after`, deleted ones included, in the order of their ids.
///
/// # Errors
/// If the database fails.
pub async fn organizations(
    pool: &PgPool,
    after: Option<OrganizationId>,
    limit: u16,
) -> Result<Vec<OrganizationId>, sqlx::Error> {
    resync::all_organizations(pool, after, i64::from(limit)).await
}

/// How many organizations there are, deleted ones included.
///
/// # Errors
/// If the database fails.
pub async fn count(pool: &PgPool) -> Result<i64, sqlx::Error> {
    resync::count_organizations(pool).await
}

/// The jobs that compare all of an organization with Polar and the support desk, and repair what differs; none
/// where there is no such organization. They give way to what the application and Polar ask for.
///
/// # Errors
/// If the database fails.
pub async fn jobs_of(
    connection: &mut PgConnection,
    organization_id: OrganizationId,
) -> Result<Vec<NewJob>, sqlx::Error> {
    if !resync::is_known(connection, organization_id).await? {
        return Ok(Vec::new());
    }
    let members = resync::all_members_of(connection, organization_id).await?;
    let members = members.into_iter().map(|user_id| {
        NewJob::of(&SyncMember {
            organization_id,
            user_id,
        })
    });
    Ok([NewJob::of(&SyncCustomer { organization_id })]
        .into_iter()
        .chain(members)
        .chain([
            NewJob::of(&SyncSubscription::of(organization_id)),
            NewJob::of(&ApplyBenefits::of(organization_id)),
            SyncSupportDesk::of(organization_id),
        ])
        .map(|job| job.with_priority(priority::BACKFILL))
        .collect())
}
