//! Subscriptions whose cancellation was taken back for a change that is under way, and cancellations that were
//! made again because the change never came. Polar gives such a cancellation a new date; people see the first one.

use chrono::{DateTime, Utc};
use polar::{DiscountId, ProductId, Subscription, SubscriptionId};
use sqlx::{PgConnection, PgPool};

use crate::types::OrganizationId;

/// What a change is to bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The plan in the end.
    pub product: ProductId,
    /// The discount that comes with it; `None` = the change is about the plan alone.
    pub discount: Option<DiscountId>,
}

impl Target {
    /// Whether the subscription has it, or the plan comes with the next period.
    #[must_use]
    pub fn is_reached(&self, subscription: &Subscription) -> bool {
        let pending = subscription
            .pending_update
            .as_ref()
            .and_then(|p| p.product_id);
        let product = [Some(subscription.product_id), pending].contains(&Some(self.product));
        let discount = |id| subscription.discount_id == Some(id);
        product && self.discount.is_none_or(discount)
    }
}

/// A subscription that was resumed for the sake of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// Which.
    pub subscription: SubscriptionId,
    /// What was wanted.
    pub target: Target,
    /// The cancellation that people know; `None` = Polar did not date it, or a person cancels anew.
    pub canceled_at: Option<DateTime<Utc>>,
}

/// Notes that the cancellation of `current` is about to be taken back.
///
/// # Errors
/// If the database fails.
pub async fn note(
    connection: &mut PgConnection,
    organization: OrganizationId,
    current: &Subscription,
    target: Target,
) -> Result<(), sqlx::Error> {
    let canceled_at = remember(&mut *connection, organization, current).await?;
    sqlx::query!(
        "INSERT INTO polar_jobs.resumed_subscriptions
                (organization_id, subscription_id, product_id, discount_id, canceled_at)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (organization_id) DO UPDATE
            SET subscription_id = excluded.subscription_id, product_id = excluded.product_id,
                discount_id = excluded.discount_id, canceled_at = excluded.canceled_at, resumed_at = now()",
        organization.0,
        current.id.0,
        target.product.0,
        target.discount.map(|discount| discount.0),
        canceled_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Replaces the change for which a subscription was resumed by the one that is about to be made.
///
/// # Errors
/// If the database fails.
pub async fn retarget(
    connection: &mut PgConnection,
    organization: OrganizationId,
    subscription: SubscriptionId,
    target: Target,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE polar_jobs.resumed_subscriptions SET product_id = $3, discount_id = $4
          WHERE organization_id = $1 AND subscription_id = $2",
        organization.0,
        subscription.0,
        target.product.0,
        target.discount.map(|discount| discount.0),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes that a person is about to cancel a subscription that was resumed. The note stays until the new cancellation is
/// made, because its job would do the same. From now on people see the date of the new cancellation, which Polar sets.
///
/// # Errors
/// If the database fails.
pub async fn cancel_anew(
    connection: &mut PgConnection,
    organization: OrganizationId,
    subscription: SubscriptionId,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE polar_jobs.resumed_subscriptions SET canceled_at = NULL
          WHERE organization_id = $1 AND subscription_id = $2",
        organization.0,
        subscription.0,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// What was noted and has not ended; `None` = nothing.
///
/// # Errors
/// If the database fails.
pub async fn read(
    pool: &PgPool,
    organization: OrganizationId,
) -> Result<Option<Resumed>, sqlx::Error> {
    read_on(&mut *pool.acquire().await?, organization).await
}

/// Returns up to `limit` organizations with an old note: its writer has ended and the job written with it has run, but
/// the note still stands. Oldest first.
///
/// # Errors
/// If the database fails.
pub async fn left_behind(pool: &PgPool, limit: i64) -> Result<Vec<OrganizationId>, sqlx::Error> {
    let ids = sqlx::query_scalar!(
        "SELECT organization_id FROM polar_jobs.resumed_subscriptions
          WHERE resumed_at < now() - interval '10 minutes' ORDER BY resumed_at LIMIT $1",
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(ids.into_iter().map(OrganizationId).collect())
}

async fn read_on(
    connection: &mut PgConnection,
    organization: OrganizationId,
) -> Result<Option<Resumed>, sqlx::Error> {
    let row = sqlx::query!(
        "SELECT subscription_id, product_id, discount_id, canceled_at
           FROM polar_jobs.resumed_subscriptions WHERE organization_id = $1",
        organization.0,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| Resumed {
        subscription: SubscriptionId(row.subscription_id),
        target: Target {
            product: ProductId(row.product_id),
            discount: row.discount_id.map(DiscountId),
        },
        canceled_at: row.canceled_at,
    }))
}

/// Ends what was noted: the change is made, the subscription is cancelled again, or a person has decided
/// anew. `found` is the subscription as Polar has it, or had it before that decision; `None` = it is gone.
///
/// # Errors
/// If the database fails.
pub async fn end(
    connection: &mut PgConnection,
    organization: OrganizationId,
    found: Option<&Subscription>,
) -> Result<(), sqlx::Error> {
    if let Some(found) = found {
        remember(&mut *connection, organization, found).await?;
    }
    sqlx::query!(
        "DELETE FROM polar_jobs.resumed_subscriptions WHERE organization_id = $1",
        organization.0,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Returns the date of the cancellation that people know: where we made it again, that of the first. `None` = the
/// subscription is not cancelled.
///
/// Call it *after* asking Polar: a cancellation is noted before we make it again, so the note of one that Polar shows is
/// there.
///
/// # Errors
/// If the database fails.
pub async fn first_canceled_at(
    connection: &mut PgConnection,
    organization: OrganizationId,
    found: &Subscription,
) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    let Some(canceled_at) = found.canceled_at else {
        return Ok(None);
    };
    // First, because one that ends between the two looks is seen by the second.
    let noted = read_on(&mut *connection, organization).await?;
    let restored = sqlx::query_scalar!(
        "SELECT first_canceled_at FROM polar_jobs.restored_cancellations
          WHERE subscription_id = $1 AND canceled_at = $2",
        found.id.0,
        canceled_at,
    )
    .fetch_optional(connection)
    .await?;
    // Without the change it is the restoration, recorded or not; with it a person cancelled afterwards.
    let restoring = noted
        .filter(|noted| noted.subscription == found.id && !noted.target.is_reached(found))
        .and_then(|noted| noted.canceled_at);
    Ok(Some(restored.or(restoring).unwrap_or(canceled_at)))
}

/// Remembers when people first cancelled, where the cancellation that was found is one that was made again. Returns that
/// date.
async fn remember(
    connection: &mut PgConnection,
    organization: OrganizationId,
    found: &Subscription,
) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    let first = first_canceled_at(&mut *connection, organization, found).await?;
    if let (Some(again), Some(first)) = (found.canceled_at, first)
        && again != first
    {
        sqlx::query!(
            "INSERT INTO polar_jobs.restored_cancellations (subscription_id, canceled_at, first_canceled_at)
             VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            found.id.0,
            again,
            first,
        )
        .execute(connection)
        .await?;
    }
    Ok(first)
}
