//! What an organization's grants switch on, as Polar was last asked.

use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::benefits::{Entitlements, SupportTier};
use crate::contract::Fees;
use crate::types::OrganizationId;

/// Draws the number of an asking, before Polar is asked.
///
/// # Errors
/// If the database fails.
pub async fn begin_asking(pool: &PgPool) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(r#"SELECT nextval('polar_jobs.asking') AS "asking!""#)
        .fetch_one(pool)
        .await
}

/// Writes what asking number `asked` found; without a grant the organization's own fees are in
/// force, else `platform_fees`. `false` = a later asking wrote before, or the organization does
/// not live.
///
/// # Errors
/// If the database fails.
pub async fn write(
    connection: &mut PgConnection,
    organization: OrganizationId,
    entitlements: &Entitlements,
    held: &[Uuid],
    platform_fees: Fees,
    asked: i64,
) -> Result<bool, sqlx::Error> {
    let support = entitlements.support.as_ref();
    let written = sqlx::query!(
        "UPDATE polar_jobs.organizations
            SET benefits_asked = $2, preview_access = $3, sso_enabled = $4,
                support_tier = CASE WHEN $5 THEN $6 ELSE support_tier END,
                plain_tier_external_id = CASE WHEN $5 THEN $7 ELSE plain_tier_external_id END
          WHERE id = $1 AND deleted_at IS NULL AND benefits_asked < $2",
        organization.0,
        asked,
        entitlements.preview_access,
        entitlements.sso_enabled,
        support.is_some(),
        support
            .and_then(|support| support.tier)
            .map(SupportTier::as_str),
        support.and_then(|support| support.plain_tier_external_id.as_deref()),
    )
    .execute(&mut *connection)
    .await?;
    if written.rows_affected() == 0 {
        return Ok(false);
    }
    if let Some(granted) = entitlements.fees {
        write_fees(connection, organization, granted, platform_fees).await?;
    }
    write_held(connection, organization, held).await?;
    Ok(true)
}

async fn write_fees(
    connection: &mut PgConnection,
    organization: OrganizationId,
    granted: Option<Fees>,
    platform: Fees,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO polar_jobs.accounts
                (organization_id, fee_basis_points, fee_fixed, subscription_fee_basis_points, granted)
         SELECT o.id, coalesce($2, o.own_fee_basis_points, $5), coalesce($3, o.own_fee_fixed, $6),
                coalesce($4, o.own_subscription_fee_basis_points, $7), $2::int IS NOT NULL
           FROM polar_jobs.organizations o WHERE o.id = $1
         ON CONFLICT (organization_id) DO UPDATE
            SET fee_basis_points = excluded.fee_basis_points, fee_fixed = excluded.fee_fixed,
                subscription_fee_basis_points = excluded.subscription_fee_basis_points,
                granted = excluded.granted",
        organization.0,
        granted.map(|fees| fees.basis_points),
        granted.map(|fees| fees.fixed),
        granted.map(|fees| fees.subscription_basis_points),
        platform.basis_points,
        platform.fixed,
        platform.subscription_basis_points,
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn write_held(
    connection: &mut PgConnection,
    organization: OrganizationId,
    held: &[Uuid],
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "WITH gone AS (
             DELETE FROM polar_jobs.held_benefits WHERE organization_id = $1 AND benefit_id <> ALL ($2))
         INSERT INTO polar_jobs.held_benefits (organization_id, benefit_id)
         SELECT $1, unnest($2::uuid[]) ON CONFLICT DO NOTHING",
        organization.0,
        held,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The living organizations that held a benefit when Polar was last asked.
///
/// # Errors
/// If the database fails.
pub async fn holders(pool: &PgPool, benefit: Uuid) -> Result<Vec<OrganizationId>, sqlx::Error> {
    let ids = sqlx::query_scalar!(
        "SELECT h.organization_id
           FROM polar_jobs.held_benefits h JOIN polar_jobs.organizations o ON o.id = h.organization_id
          WHERE h.benefit_id = $1 AND o.deleted_at IS NULL ORDER BY 1",
        benefit,
    )
    .fetch_all(pool)
    .await?;
    Ok(ids.into_iter().map(OrganizationId).collect())
}
