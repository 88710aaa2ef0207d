//! What an organization's grants switch on, as Polar was last asked.

use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::fees;
use crate::benefits::{Entitlements, Support, SupportTier};
use crate::types::OrganizationId;

/// Writes the answer with this number. `false` = a later answer was written before, or the organization
/// does not live.
///
/// # Errors
/// If the database fails.
pub async fn write(
    connection: &mut PgConnection,
    organization: OrganizationId,
    entitlements: &Entitlements,
    held: &[Uuid],
    answer_number: i64,
) -> Result<bool, sqlx::Error> {
    let support = entitlements.support.as_ref();
    let fees = entitlements.fees.flatten();
    let written = sqlx::query!(
        "UPDATE polar_jobs.organizations
            SET benefits_asked = $2, preview_access = $3, sso_enabled = $4,
                support_tier = CASE WHEN $5 THEN $6 ELSE support_tier END,
                plain_tier_external_id = CASE WHEN $5 THEN $7 ELSE plain_tier_external_id END,
                granted_fee_basis_points = CASE WHEN $8 THEN $9 ELSE granted_fee_basis_points END,
                granted_fee_fixed = CASE WHEN $8 THEN $10 ELSE granted_fee_fixed END,
                granted_subscription_fee_basis_points =
                    CASE WHEN $8 THEN $11 ELSE granted_subscription_fee_basis_points END
          WHERE id = $1 AND deleted_at IS NULL AND benefits_asked < $2",
        organization.0,
        answer_number,
        entitlements.preview_access,
        entitlements.sso_enabled,
        support.is_some(),
        support
            .and_then(|support| support.tier)
            .map(SupportTier::as_str),
        support.and_then(|support| support.plain_tier_external_id.as_deref()),
        entitlements.fees.is_some(),
        fees.map(|fees| fees.basis_points),
        fees.map(|fees| fees.fixed),
        fees.map(|fees| fees.subscription_basis_points),
    )
    .execute(&mut *connection)
    .await?;
    if written.rows_affected() == 0 {
        return Ok(false);
    }
    write_held(connection, organization, held).await?;
    Ok(true)
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

/// What was written last, with the ids of the benefits in their order; `None` where the organization
/// does not live, or is out of step.
///
/// # Errors
/// If the database fails.
pub async fn read(
    pool: &PgPool,
    organization: OrganizationId,
) -> Result<Option<(Entitlements, Vec<Uuid>)>, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT support_tier, plain_tier_external_id, preview_access, sso_enabled, granted_fee_basis_points,
                  granted_fee_fixed, granted_subscription_fee_basis_points,
                  ARRAY(SELECT h.benefit_id FROM polar_jobs.held_benefits h
                         WHERE h.organization_id = o.id ORDER BY 1) AS "held!"
             FROM polar_jobs.organizations o WHERE id = $1 AND deleted_at IS NULL AND NOT stale"#,
        organization.0,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| {
        let fees = fees::from_columns(
            row.granted_fee_basis_points,
            row.granted_fee_fixed,
            row.granted_subscription_fee_basis_points,
        );
        let entitlements = Entitlements {
            fees: Some(fees),
            support: Some(Support {
                tier: row.support_tier.as_deref().and_then(SupportTier::parse),
                plain_tier_external_id: row.plain_tier_external_id,
            }),
            preview_access: row.preview_access,
            sso_enabled: row.sso_enabled,
        };
        (entitlements, row.held)
    }))
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
