//! Our mirror of each organization's subscription in force, or of the newest one that ended.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::types::OrganizationId;

/// What a customer's state says of a subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Terms {
    /// Polar's id.
    pub subscription_id: Uuid,
    /// The plan.
    pub product_id: Uuid,
    /// Where it stands, in Polar's word.
    pub status: String,
    /// The price per period.
    pub amount: i64,
    /// The currency, lower case.
    pub currency: String,
    /// `month`, `year`, ..
    pub recurring_interval: Option<String>,
    /// Start of the paid period.
    pub current_period_start: Option<DateTime<Utc>>,
    /// End of the paid period.
    pub current_period_end: Option<DateTime<Utc>>,
    /// Whether it ends with the period.
    pub cancel_at_period_end: bool,
    /// When cancellation was asked for.
    pub canceled_at: Option<DateTime<Utc>>,
    /// When it began.
    pub started_at: Option<DateTime<Utc>>,
    /// When access will end.
    pub ends_at: Option<DateTime<Utc>>,
    /// The discount in force.
    pub discount_id: Option<Uuid>,
}

/// Everything that is kept of a subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AllTerms {
    /// What a customer's state says of it.
    #[serde(flatten)]
    pub terms: Terms,
    /// The plan in words.
    pub product_name: String,
    /// When access ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// Since when a payment is missing.
    pub past_due_at: Option<DateTime<Utc>>,
    /// The plan from the end of the period on.
    pub pending_product_id: Option<Uuid>,
    /// When that begins.
    pub pending_applies_at: Option<DateTime<Utc>>,
}

impl AllTerms {
    /// What Polar says now. The name of the plan is passed in, because Polar does not always say it with the
    /// subscription.
    #[must_use]
    pub fn of(subscription: &polar::Subscription, product_name: String) -> Self {
        let pending = subscription.pending_update.as_ref();
        Self {
            terms: Terms {
                subscription_id: subscription.id.0,
                product_id: subscription.product_id.0,
                status: subscription.status.as_str().to_owned(),
                amount: subscription.amount,
                currency: subscription.currency.clone(),
                recurring_interval: subscription.recurring_interval.clone(),
                current_period_start: subscription.current_period_start,
                current_period_end: subscription.current_period_end,
                cancel_at_period_end: subscription.cancel_at_period_end,
                canceled_at: subscription.canceled_at,
                started_at: subscription.started_at,
                ends_at: subscription.ends_at,
                discount_id: subscription.discount_id.map(|id| id.0),
            },
            product_name,
            ended_at: subscription.ended_at,
            past_due_at: subscription.past_due_at,
            pending_product_id: pending
                .and_then(|pending| pending.product_id)
                .map(|id| id.0),
            pending_applies_at: pending.map(|pending| pending.applies_at),
        }
    }
}

/// Everything that was written last; `None` = no subscription.
///
/// # Errors
/// If the database fails.
pub async fn read_all(
    pool: &PgPool,
    organization: OrganizationId,
) -> Result<Option<AllTerms>, sqlx::Error> {
    let Some(terms) = read(pool, organization).await? else {
        return Ok(None);
    };
    let rest = sqlx::query!(
        "SELECT product_name, ended_at, past_due_at, pending_product_id, pending_applies_at
           FROM polar_jobs.subscriptions WHERE organization_id = $1 AND subscription_id = $2",
        organization.0,
        terms.subscription_id,
    )
    .fetch_optional(pool)
    .await?;
    // Another one was written between the two looks: the comparison looks again and finds that out.
    Ok(rest.map(|rest| AllTerms {
        terms,
        product_name: rest.product_name,
        ended_at: rest.ended_at,
        past_due_at: rest.past_due_at,
        pending_product_id: rest.pending_product_id,
        pending_applies_at: rest.pending_applies_at,
    }))
}

/// What was written last; `None` = no subscription.
///
/// # Errors
/// If the database fails.
pub async fn read(
    pool: &PgPool,
    organization: OrganizationId,
) -> Result<Option<Terms>, sqlx::Error> {
    sqlx::query_as!(
        Terms,
        "SELECT subscription_id, product_id, status, amount, currency, recurring_interval, current_period_start,
                current_period_end, cancel_at_period_end, canceled_at, started_at, ends_at, discount_id
           FROM polar_jobs.subscriptions WHERE organization_id = $1",
        organization.0,
    )
    .fetch_optional(pool)
    .await
}

/// Writes the answer with this number; `None` = no subscription. `false` = a later answer was written
/// before, or the organization does not live.
///
/// # Errors
/// If the database fails.
pub async fn write(
    connection: &mut PgConnection,
    organization: OrganizationId,
    found: Option<&AllTerms>,
    answer_number: i64,
) -> Result<bool, sqlx::Error> {
    let written = sqlx::query!(
        "UPDATE polar_jobs.organizations SET subscription_asked = $2
          WHERE id = $1 AND deleted_at IS NULL AND subscription_asked < $2",
        organization.0,
        answer_number,
    )
    .execute(&mut *connection)
    .await?;
    if written.rows_affected() == 0 {
        return Ok(false);
    }
    match found {
        Some(found) => put(connection, organization, found).await?,
        None => {
            sqlx::query!(
                "DELETE FROM polar_jobs.subscriptions WHERE organization_id = $1",
                organization.0
            )
            .execute(connection)
            .await?;
        }
    }
    Ok(true)
}

async fn put(
    connection: &mut PgConnection,
    organization: OrganizationId,
    found: &AllTerms,
) -> Result<(), sqlx::Error> {
    let terms = &found.terms;
    sqlx::query!(
        "INSERT INTO polar_jobs.subscriptions
                (organization_id, subscription_id, product_id, product_name, status, amount, currency,
                 recurring_interval, current_period_start, current_period_end, cancel_at_period_end,
                 canceled_at, started_at, ends_at, ended_at, past_due_at, discount_id,
                 pending_product_id, pending_applies_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
         ON CONFLICT (organization_id) DO UPDATE
            SET subscription_id = excluded.subscription_id, product_id = excluded.product_id,
                product_name = excluded.product_name, status = excluded.status, amount = excluded.amount,
                currency = excluded.currency, recurring_interval = excluded.recurring_interval,
                current_period_start = excluded.current_period_start,
                current_period_end = excluded.current_period_end,
                cancel_at_period_end = excluded.cancel_at_period_end, canceled_at = excluded.canceled_at,
                started_at = excluded.started_at, ends_at = excluded.ends_at, ended_at = excluded.ended_at,
                past_due_at = excluded.past_due_at, discount_id = excluded.discount_id,
                pending_product_id = excluded.pending_product_id,
                pending_applies_at = excluded.pending_applies_at, seen_at = now()",
        organization.0,
        terms.subscription_id,
        terms.product_id,
        found.product_name,
        terms.status,
        terms.amount,
        terms.currency,
        terms.recurring_interval,
        terms.current_period_start,
        terms.current_period_end,
        terms.cancel_at_period_end,
        terms.canceled_at,
        terms.started_at,
        terms.ends_at,
        found.ended_at,
        found.past_due_at,
        terms.discount_id,
        found.pending_product_id,
        found.pending_applies_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}
