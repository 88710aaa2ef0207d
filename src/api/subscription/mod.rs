//! An organization's subscription: what it has, and every change of it.
//!
//! Polar has no way to make two changes at once that depend on each other, so one of an organization's
//! subscription is made at a time, under a lease that every process respects; and what was asked for is
//! compared with what is there first, so that a second click finds nothing left to do.

pub(super) mod checkout;
pub(super) mod claim;
mod dearer;
mod lease;
mod switch;
mod view;

use axum::Json;
use axum::response::Response;
use jobs::mirror::api::resumed::Target;
use polar::{Product, ProrationBehavior, Subscription, SubscriptionUpdate};
use serde::Deserialize;
use utoipa::ToSchema;

use self::lease::{ChangeLease, Note};
use self::switch::{Switch, confirm, make, switch};
use self::view::SubscriptionView;
use super::access::{Access, Manages};
use super::body::{json, no_body};
use super::error::{ApiError, ErrorBody, Refusal};
use super::mutation::{Input, Mutation};
use super::plans;
use super::reply::Reply;
use super::startup_program;

/// What the organization has: its subscription, or the free plan.
#[utoipa::path(
    get,
    path = "/v1/organizations/{organization_id}/subscription",
    tag = "Subscription",
    params(("organization_id" = Uuid, Path, description = "The application's id of the organization")),
    responses((status = 200, description = "The subscription; ids and times are null on the free plan", body = SubscriptionView)),
)]
pub(super) async fn get(access: Access<Manages>) -> Result<Json<SubscriptionView>, ApiError> {
    let polar = access.polar()?;
    let current = access.subscription(polar).await?;
    Ok(Json(view::of(&access, polar, current.as_ref()).await?))
}

/// Which plan.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct ChangePlan {
    /// One of `GET /plans`.
    product_id: String,
}

/// Changes the plan of the subscription: one that costs more per month at once, and the difference is charged; any
/// other with the next period. The plan that it has already takes back a cancellation, or a change that waits.
#[utoipa::path(
    patch,
    path = "/v1/organizations/{organization_id}/subscription",
    tag = "Subscription",
    params(("organization_id" = Uuid, Path, description = "The application's id of the organization")),
    request_body = ChangePlan,
    responses(
        (status = 200, description = "The subscription as it is now", body = SubscriptionView),
        (status = 402, description = "The card was declined; nothing has changed", body = ErrorBody),
    ),
)]
pub(super) async fn change_plan(access: Access<Manages>, mutation: Mutation) -> Response {
    let act = async |access: Access<Manages>, input: Input<ChangePlan>| {
        let lease = ChangeLease::acquire(&access).await?;
        let changed = change_plan_alone(&access, &lease, &input.body.product_id).await;
        lease.release().await;
        Ok(Reply::ok(&changed?))
    };
    mutation.run_once(access, json::<ChangePlan>, act).await
}

async fn change_plan_alone(
    access: &Access<Manages>,
    lease: &ChangeLease,
    product_id: &str,
) -> Result<SubscriptionView, ApiError> {
    let polar = access.polar()?;
    let (product, current) = futures::join!(
        plans::for_sale(polar, product_id),
        access.subscription(polar)
    );
    let wanted = super::ids::parse(product_id);
    if let Ok(Some(current)) = &current
        && wanted == Some(current.product_id)
    {
        // Also a plan that is no longer sold can be kept.
        access.approved()?;
        return keep_plan(access, lease, current).await;
    }
    let product = product?;
    access.approved()?;
    let current = current?.ok_or(Refusal::NoActiveSubscription)?;
    let wanted = plan_of_switch(access, polar, &current, &product).await?;
    if wanted.waits(&current) {
        return confirm(access, lease, current).await;
    }
    let changed = switch(access, lease, &current, &wanted).await?;
    confirm(access, lease, changed).await
}

/// The plan is the one that the subscription has: what stands in the way of keeping it is taken back.
async fn keep_plan(
    access: &Access<Manages>,
    lease: &ChangeLease,
    current: &Subscription,
) -> Result<SubscriptionView, ApiError> {
    let mut kept = current.clone();
    if kept.cancel_at_period_end {
        let resumed = |s: &Subscription| !s.cancel_at_period_end;
        lease.before_change(Note::End(&kept)).await?;
        kept = make(access, kept.id, &SubscriptionUpdate::RESUME, resumed).await?;
    }
    if view::pending_change(&kept).is_some() {
        kept = clear_pending(access, lease, &kept).await?;
    }
    confirm(access, lease, kept).await
}

/// Takes a change back that waits for the end of the period.
async fn clear_pending(
    access: &Access<Manages>,
    lease: &ChangeLease,
    current: &Subscription,
) -> Result<Subscription, ApiError> {
    let clear = SubscriptionUpdate::CLEAR_PENDING;
    let cleared = |s: &Subscription| view::pending_change(s).is_none();
    lease.before_change(Note::End(current)).await?;
    make(access, current.id, &clear, cleared).await
}

/// How the subscription gets to the product: which discount comes or goes with it, and when.
async fn plan_of_switch(
    access: &Access<Manages>,
    polar: &polar::Client,
    current: &Subscription,
    product: &Product,
) -> Result<Switch, ApiError> {
    let customer = startup_program::metadata_of(access, polar, current.customer.as_ref()).await?;
    let to_scale = access.state.scale_product == Some(product.id);
    let offered = if to_scale {
        startup_program::invitation(polar, &customer).await?
    } else {
        None
    };
    let claimable = offered.filter(|offer| !offer.is_redeemed());
    let discount = claimable.map(|offer| offer.id);
    let leaves = !to_scale && startup_program::is_programs(current, &customer);
    // A discount takes effect at once only together with a product that does
    // (docs/polar-facts.md#proration). Everything else goes by what it costs.
    let at_once = discount.is_some() || dearer::is_dearer(product, current);
    Ok(Switch {
        target: Target {
            product: product.id,
            discount,
        },
        update: SubscriptionUpdate::Plan {
            product_id: product.id,
            proration_behavior: match at_once {
                true => ProrationBehavior::Invoice,
                false => ProrationBehavior::NextPeriod,
            },
            discount_id: discount.map(Some).or(leaves.then_some(None)),
        },
    })
}

/// Ends the subscription with its period. A second time changes nothing.
#[utoipa::path(
    delete,
    path = "/v1/organizations/{organization_id}/subscription",
    tag = "Subscription",
    params(("organization_id" = Uuid, Path, description = "The application's id of the organization")),
    responses((status = 200, description = "The subscription as it is now", body = SubscriptionView)),
)]
pub(super) async fn cancel(access: Access<Manages>, mutation: Mutation) -> Response {
    let act = async |access: Access<Manages>, _: Input<()>| {
        let lease = ChangeLease::acquire(&access).await?;
        let cancelled = cancel_alone(&access, &lease).await;
        lease.release().await;
        Ok(Reply::ok(&cancelled?))
    };
    mutation.run_once(access, no_body, act).await
}

async fn cancel_alone(
    access: &Access<Manages>,
    lease: &ChangeLease,
) -> Result<SubscriptionView, ApiError> {
    let polar = access.polar()?;
    let current = access.subscription(polar).await?;
    let mut current = current.ok_or(Refusal::NoActiveSubscription)?;
    if !current.cancel_at_period_end {
        let cancelled = |s: &Subscription| s.cancel_at_period_end || s.ended_at.is_some();
        lease.before_change(Note::CancelAnew(&current)).await?;
        current = make(access, current.id, &SubscriptionUpdate::CANCEL, cancelled).await?;
    }
    confirm(access, lease, current).await
}
