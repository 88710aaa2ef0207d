//! Subscriptions whose cancellation was taken back for a change of plan that is under way.

use sqlx::{PgConnection, PgPool};

use crate::types::OrganizationId;

/// A subscription that was resumed for the sake of another plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// Which.
    pub subscription: polar::SubscriptionId,
    /// The plan that was wanted.
    pub product: polar::ProductId,
}

/// Notes that the cancellation is about to be taken back.
///
/// # Errors
/// If the database fails.
pub async fn note(
    connection: &mut PgConnection,
    organization: OrganizationId,
    resumed: Resumed,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO polar_jobs.resumed_subscriptions (organization_id, subscription_id, product_id)
         VALUES ($1, $2, $3)
         ON CONFLICT (organization_id) DO UPDATE
            SET subscription_id = excluded.subscription_id, product_id = excluded.product_id, resumed_at = now()",
        organization.0,
        resumed.subscription.0,
        resumed.product.0,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// What was noted and not cleared; `None` = nothing.
///
/// # Errors
/// If the database fails.
pub async fn read(
    pool: &PgPool,
    organization: OrganizationId,
) -> Result<Option<Resumed>, sqlx::Error> {
    let row = sqlx::query!(
        "SELECT subscription_id, product_id FROM polar_jobs.resumed_subscriptions WHERE organization_id = $1",
        organization.0,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| Resumed {
        subscription: polar::SubscriptionId(row.subscription_id),
        product: polar::ProductId(row.product_id),
    }))
}

/// Forgets the note: the plan has changed, the subscription is cancelled again, or a person has decided
/// anew.
///
/// # Errors
/// If the database fails.
pub async fn clear(
    connection: &mut PgConnection,
    organization: OrganizationId,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "DELETE FROM polar_jobs.resumed_subscriptions WHERE organization_id = $1",
        organization.0,
    )
    .execute(connection)
    .await?;
    Ok(())
}
