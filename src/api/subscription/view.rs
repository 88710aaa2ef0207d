//! A subscription as the application's people see it.

use chrono::{DateTime, Months, Utc};
use polar::{Discount, DiscountDuration, Subscription};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::api::access::Access;
use crate::api::error::ApiError;
use crate::api::plans::{self, Plan};
use crate::api::startup_program::{self, StartupStatus};

/// What an organization has.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct SubscriptionView {
    /// Null on the free plan, as are its times.
    subscription_id: Option<Uuid>,
    /// `trialing`, `active`, `past_due` or `paused`.
    status: String,
    product_id: Option<Uuid>,
    plan: Plan,
    /// Per period, in the smallest unit of the currency, after the discount.
    amount: i64,
    /// Three letters, lower case.
    currency: String,
    /// `month` or `year`.
    recurring_interval: Option<String>,
    /// How many of them a period lasts.
    recurring_interval_count: u32,
    current_period_start: Option<DateTime<Utc>>,
    current_period_end: Option<DateTime<Utc>>,
    /// Whether it ends with the period.
    cancel_at_period_end: bool,
    canceled_at: Option<DateTime<Utc>>,
    started_at: Option<DateTime<Utc>>,
    ends_at: Option<DateTime<Utc>>,
    /// A change of plan that waits for the end of the period.
    pending_change: Option<PendingChange>,
    discount: Option<DiscountView>,
    startup_program_status: Option<StartupStatus>,
    /// The plan of the startup program, for whoever was invited.
    startup_program_scale_product_id: Option<Uuid>,
}

/// Another plan from some time on.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PendingChange {
    product_id: Uuid,
    applies_at: DateTime<Utc>,
}

/// The discount in force.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DiscountView {
    discount_id: Uuid,
    name: String,
    /// `percentage` or `fixed`.
    #[serde(rename = "type")]
    kind: String,
    /// `once`, `forever` or `repeating`.
    duration: String,
    duration_in_months: Option<u32>,
    /// Of a percentage: 10 000 is everything.
    basis_points: Option<i64>,
    /// Of a fixed one: the amount by currency.
    #[schema(value_type = Option<Object>)]
    amounts: Option<Value>,
    /// Of a repeating one: its end.
    ends_at: Option<DateTime<Utc>>,
}

/// What the organization has now; `None` is the free plan.
pub(super) async fn of<G>(
    access: &Access<G>,
    polar: &polar::Client,
    subscription: Option<&Subscription>,
) -> Result<SubscriptionView, ApiError> {
    let known = subscription.and_then(|subscription| subscription.customer.as_ref());
    let status = startup_program::status(access, polar, known).await;
    let mut view = match subscription {
        None => free(access),
        Some(subscription) => {
            let plan = match &subscription.product {
                Some(product) => Plan::of(product),
                None => Plan::of(&polar.products().get(subscription.product_id).await?),
            };
            paid(subscription, plan)
        }
    };
    view.startup_program_status = status;
    let scale = access.state.scale_product.map(|product| product.0);
    view.startup_program_scale_product_id = status.and(scale);
    Ok(view)
}

fn free<G>(access: &Access<G>) -> SubscriptionView {
    SubscriptionView {
        subscription_id: None,
        status: "active".to_owned(),
        product_id: None,
        plan: plans::unsubscribed(access),
        amount: 0,
        currency: "usd".to_owned(),
        recurring_interval: Some("month".to_owned()),
        recurring_interval_count: 1,
        current_period_start: None,
        current_period_end: None,
        cancel_at_period_end: false,
        canceled_at: None,
        started_at: None,
        ends_at: None,
        pending_change: None,
        discount: None,
        startup_program_status: None,
        startup_program_scale_product_id: None,
    }
}

fn paid(subscription: &Subscription, plan: Plan) -> SubscriptionView {
    let discount = subscription.discount.as_ref();
    SubscriptionView {
        subscription_id: Some(subscription.id.0),
        status: subscription.status.as_str().to_owned(),
        product_id: Some(subscription.product_id.0),
        plan,
        amount: subscription.amount,
        currency: subscription.currency.clone(),
        recurring_interval: subscription.recurring_interval.clone(),
        recurring_interval_count: subscription.recurring_interval_count.unwrap_or(1),
        current_period_start: subscription.current_period_start,
        current_period_end: subscription.current_period_end,
        cancel_at_period_end: subscription.cancel_at_period_end,
        canceled_at: subscription.canceled_at,
        started_at: subscription.started_at,
        ends_at: subscription.ends_at,
        pending_change: pending_change(subscription),
        discount: discount.and_then(|discount| discount_of(discount, subscription.started_at)),
        startup_program_status: None,
        startup_program_scale_product_id: None,
    }
}

/// The change that waits, where it brings another plan; one of seats alone is none.
pub(super) fn pending_change(subscription: &Subscription) -> Option<PendingChange> {
    let pending = subscription.pending_update.as_ref()?;
    let product = pending.product_id?;
    (product != subscription.product_id).then_some(PendingChange {
        product_id: product.0,
        applies_at: pending.applies_at,
    })
}

/// `None` for one whose terms Polar does not tell.
fn discount_of(discount: &Discount, started_at: Option<DateTime<Utc>>) -> Option<DiscountView> {
    let (kind, duration) = (discount.kind.as_ref()?, discount.duration.as_ref()?);
    let months = discount
        .duration_in_months
        .filter(|_| *duration == DiscountDuration::Repeating);
    Some(DiscountView {
        discount_id: discount.id.0,
        name: discount.name.clone(),
        kind: kind.as_str().to_owned(),
        duration: duration.as_str().to_owned(),
        duration_in_months: discount.duration_in_months,
        basis_points: discount.basis_points,
        amounts: discount.amounts.clone(),
        ends_at: months.and_then(|months| started_at?.checked_add_months(Months::new(months))),
    })
}
