//! Everything that is wanted and held of one organization, in one look: what is compared with Polar.

use sqlx::PgPool;
use uuid::Uuid;

use super::subscriptions::AllTerms;
use super::{benefits, subscriptions};
use crate::benefits::Entitlements;
use crate::types::{Email, OrganizationId, Role, UserId};

/// One organization as we have it.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldOrganization {
    /// Its display name.
    pub name: String,
    /// Its short name.
    pub slug: String,
    /// The customer that was last seen at Polar.
    pub customer: Option<polar::CustomerId>,
    /// Whether Polar confirmed the newest change of it.
    pub is_confirmed: bool,
    /// Deliveries about it could not be followed up.
    pub stale: bool,
    /// Everybody who belongs to it, or did.
    pub members: Vec<HeldMember>,
    /// What its grants switch on, and the ids of their benefits.
    pub benefits: Option<(Entitlements, Vec<Uuid>)>,
    /// Its subscription.
    pub subscription: Option<AllTerms>,
    /// Reasons of what is known to be out of step, by subject.
    pub reasons: Vec<(String, String)>,
}

/// A person of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldMember {
    /// Who.
    pub user: UserId,
    /// The role in the application.
    pub role: Role,
    /// Whether the person left.
    pub removed: bool,
    /// The address, where one is known.
    pub email: Option<Email>,
    /// The display name.
    pub name: String,
    /// Whether Polar confirmed the newest change.
    pub is_confirmed: bool,
}

impl HeldMember {
    /// Returns whether neither name nor address is known of somebody who left: what Polar still has of them must not
    /// be written here again.
    pub(crate) fn is_erased(&self) -> bool {
        self.removed && self.email.is_none() && self.name.is_empty()
    }
}

/// Reads it; `None` = it does not live.
///
/// # Errors
/// If the database fails.
pub async fn organization(
    pool: &PgPool,
    organization: OrganizationId,
) -> Result<Option<HeldOrganization>, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT name, slug, polar_customer_id, synced_event IS NOT DISTINCT FROM event_id AS "is_confirmed!", stale,
                  ARRAY(SELECT s.subject FROM polar_jobs.out_of_step s WHERE s.organization_id = o.id ORDER BY 1) AS "subjects!",
                  ARRAY(SELECT s.reason FROM polar_jobs.out_of_step s WHERE s.organization_id = o.id ORDER BY s.subject) AS "reasons!"
             FROM polar_jobs.organizations o WHERE id = $1 AND deleted_at IS NULL"#,
        organization.0,
    )
    .fetch_optional(pool)
    .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    Ok(Some(HeldOrganization {
        name: row.name,
        slug: row.slug,
        customer: row.polar_customer_id.map(polar::CustomerId),
        is_confirmed: row.is_confirmed,
        stale: row.stale,
        members: members(pool, organization).await?,
        benefits: benefits::read(pool, organization).await?,
        subscription: subscriptions::read_all(pool, organization).await?,
        reasons: row.subjects.into_iter().zip(row.reasons).collect(),
    }))
}

async fn members(
    pool: &PgPool,
    organization: OrganizationId,
) -> Result<Vec<HeldMember>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"SELECT m.user_id, m.role, m.removed_at IS NOT NULL AS "removed!", p.email,
                  left(coalesce(nullif(p.name, ''), split_part(p.email, '@', 1), ''), 256) AS "name!",
                  m.synced_event IS NOT DISTINCT FROM
                      polar_jobs.member_version(m.event_id, m.removed_at, p.changed_event) AS "is_confirmed!"
             FROM polar_jobs.memberships m JOIN polar_jobs.people p USING (user_id)
            WHERE m.organization_id = $1 ORDER BY m.user_id"#,
        organization.0,
    )
    .fetch_all(pool)
    .await?;
    let members = rows.into_iter().map(|row| HeldMember {
        user: UserId(row.user_id),
        role: Role::parse(&row.role).expect("the table holds only the four roles"),
        removed: row.removed,
        email: row.email.map(Email::from_mirror),
        name: row.name,
        is_confirmed: row.is_confirmed,
    });
    Ok(members.collect())
}
