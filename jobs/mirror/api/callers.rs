//! Whom a request is about, and what its caller may do there.

use sqlx::PgPool;

use crate::contract::Fees;
use crate::mirror::fees;
use crate::types::{OrganizationId, Role, UserId};

/// A living organization, as one caller meets it.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its status in the application.
    pub status: String,
    /// What the person may do there; `None` for a person who does not belong to it.
    pub role: Option<Role>,
    /// Whether it lives anew, and the customer of its earlier life is still to be deleted: what Polar says and does
    /// under its external id is that one's.
    pub erasing: bool,
    /// What it pays now.
    pub fees: Option<Fees>,
}

/// The organization, and the role of `person` in it; `None` = unknown or deleted.
///
/// # Errors
/// If the database fails.
pub async fn find(
    pool: &PgPool,
    organization: OrganizationId,
    person: Option<UserId>,
) -> Result<Option<Found>, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT o.status, m.role AS "role?", a.fee_basis_points, a.fee_fixed,
                  a.subscription_fee_basis_points, o.erasure_event IS NOT NULL AS "erasing!"
             FROM polar_jobs.organizations o
             JOIN polar_jobs.accounts a ON a.organization_id = o.id
             LEFT JOIN polar_jobs.memberships m
               ON m.organization_id = o.id AND m.user_id = $2 AND m.removed_at IS NULL
            WHERE o.id = $1 AND o.deleted_at IS NULL"#,
        organization.0,
        person.map(|person| person.0),
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| Found {
        status: row.status,
        role: row.role.as_deref().and_then(Role::parse),
        erasing: row.erasing,
        fees: fees::from_columns(
            row.fee_basis_points,
            row.fee_fixed,
            row.subscription_fee_basis_points,
        ),
    }))
}
