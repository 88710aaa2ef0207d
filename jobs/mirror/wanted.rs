//! What the application wants at Polar, read at the start of every sync: the state that is wanted now, not what changed.

use std::time::Duration;

use sqlx::PgPool;
use uuid::Uuid;

use crate::types::{Email, OrganizationId, Role, UserId};

/// An organization as Polar should hold it.
#[derive(Clone, Debug)]
pub struct WantedCustomer {
    /// Its display name.
    pub name: String,
    /// Its short name, kept in metadata.
    pub slug: String,
    /// Whether it should be gone.
    pub deleted: bool,
    /// The change that this reading is of.
    pub event_id: i64,
    /// The newest change of the organization or of its owner.
    pub version: i64,
    /// The customer that was last seen at Polar, also if it was found missing since.
    pub customer: Option<polar::CustomerId>,
    /// Set while the customer of an earlier life must still go.
    pub erasure_event: Option<i64>,
    /// Deliveries about it came while billing was off.
    pub stale: bool,
    /// Who should own it.
    pub owner: Option<UserId>,
}

/// A person as a member at Polar.
#[derive(Clone, Debug)]
pub struct WantedMember {
    /// Who.
    pub user: UserId,
    /// The role in the application.
    pub role: Role,
    /// Whether the person should be gone.
    pub removed: bool,
    /// The address; `None` where the application never gave a usable one.
    pub email: Option<Email>,
    /// The display name.
    pub name: String,
    /// How long ago Polar first refused the address.
    pub undeliverable_for: Option<Duration>,
    /// The newest change that this reading is of.
    pub version: i64,
}

/// What is wanted of an organization; `None` = not announced yet.
///
/// # Errors
/// If the database fails.
pub async fn customer(
    pool: &PgPool,
    organization: OrganizationId,
) -> Result<Option<WantedCustomer>, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT o.name, o.slug, o.deleted_at IS NOT NULL AS "deleted!", o.event_id,
                  greatest(o.event_id, m.event_id, p.changed_event) AS "version!", o.polar_customer_id,
                  o.erasure_event, o.stale, m.user_id AS "owner?"
             FROM polar_jobs.organizations o
             LEFT JOIN polar_jobs.memberships m
               ON m.organization_id = o.id AND m.role = 'owner' AND m.removed_at IS NULL
             LEFT JOIN polar_jobs.people p ON p.user_id = m.user_id
            WHERE o.id = $1"#,
        organization.0,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| WantedCustomer {
        name: row.name,
        slug: row.slug,
        deleted: row.deleted,
        event_id: row.event_id,
        version: row.version,
        customer: row.polar_customer_id.map(polar::CustomerId),
        erasure_event: row.erasure_event,
        stale: row.stale,
        owner: row.owner.map(UserId),
    }))
}

/// What is wanted of a member; `None` = never was one.
///
/// # Errors
/// If the database fails.
pub async fn member(
    pool: &PgPool,
    organization: OrganizationId,
    user: UserId,
) -> Result<Option<WantedMember>, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT m.role, m.removed_at IS NOT NULL AS "removed!", p.email,
                  left(coalesce(nullif(p.name, ''), split_part(p.email, '@', 1), ''), 256) AS "name!",
                  extract(epoch FROM now() - p.undeliverable_at)::float8 AS undeliverable_for,
                  polar_jobs.member_version(m.event_id, m.removed_at, p.changed_event) AS "version!"
             FROM polar_jobs.memberships m JOIN polar_jobs.people p USING (user_id)
            WHERE m.organization_id = $1 AND m.user_id = $2"#,
        organization.0,
        user.0,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| WantedMember {
        user,
        role: Role::parse(&row.role).expect("the table holds only the four roles"),
        removed: row.removed,
        email: row.email.map(Email::from_mirror),
        name: row.name,
        undeliverable_for: row
            .undeliverable_for
            .map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()),
        version: row.version,
    }))
}

/// Whose customer this is or was: the map of Polar's ids also knows deleted customers.
///
/// # Errors
/// If the database fails.
pub async fn organization_of_customer(
    pool: &PgPool,
    customer: Uuid,
) -> Result<Option<OrganizationId>, sqlx::Error> {
    let id = sqlx::query_scalar!(
        "SELECT organization_id FROM polar_jobs.polar_customers WHERE polar_customer_id = $1",
        customer,
    )
    .fetch_optional(pool)
    .await?;
    Ok(id.map(OrganizationId))
}
