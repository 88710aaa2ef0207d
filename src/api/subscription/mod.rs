//! An organization's subscription: what it has, and every change of it.
//!
//! Polar has no way to make two changes at once that depend on each other, so one of an organization's
//! subscription is made at a time, under a lease that every process respects; and what was asked for is
//! compared with what is there first, so that a second click finds nothing left to do.

mod change;
pub(super) mod checkout;
pub(super) mod claim;
mod confirm;
mod price_per_day;
mod switch;
mod update;
mod view;

use axum::Json;
use axum::response::Response;
use jobs::mirror::api::resumed::Target;
use polar::{Product, ProrationBehavior, Subscription, SubscriptionUpdate};
use serde::Deserialize;
use utoipa::ToSchema;

use self::change::{Resumption, SubscriptionChange, under_lease};
use self::switch::Switch;
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
        let product_id = &input.body.product_id;
        let changed = under_lease(&access, async |change| {
            choose_plan(change, product_id).await
        });
        Ok(Reply::ok(&changed.await?))
    };
    mutation.run_once(access, json::<ChangePlan>, act).await
}

async fn choose_plan(
    change: &mut SubscriptionChange<'_>,
    product_id: &str,
) -> Result<SubscriptionView, ApiError> {
    let (access, polar) = (change.access, change.polar);
    let (product, current) = futures::join!(
        plans::for_sale(polar, product_id),
        access.subscription(polar)
    );
    let wanted = super::ids::parse(product_id);
    if let Ok(Some(current)) = &current
        && wanted == Some(current.product_id)
    {
        // Also a plan that is no longer sold can be kept.
        access.require_approved()?;
        return keep_plan(change, current).await;
    }
    let product = product?;
    access.require_approved()?;
    let current = current?.ok_or(Refusal::NoActiveSubscription)?;
    let wanted = plan_of_switch(change, &current, &product).await?;
    if wanted.waits(&current) {
        return change.confirm(current).await;
    }
    let changed = change.switch(&current, &wanted).await?;
    change.confirm(changed).await
}

/// The plan is the one that the subscription has: what stands in the way of keeping it is taken back.
async fn keep_plan(
    change: &mut SubscriptionChange<'_>,
    current: &Subscription,
) -> Result<SubscriptionView, ApiError> {
    let mut kept = current.clone();
    if kept.cancel_at_period_end {
        kept = change.resume(kept.id, Resumption::End(&kept)).await?;
    }
    if view::pending_change(&kept).is_some() {
        kept = change.clear_pending(&kept).await?;
    }
    change.confirm(kept).await
}

/// How the subscription gets to the product: which discount comes or goes with it, and when.
async fn plan_of_switch(
    change: &SubscriptionChange<'_>,
    current: &Subscription,
    product: &Product,
) -> Result<Switch, ApiError> {
    let (access, polar) = (change.access, change.polar);
    let customer = startup_program::metadata_of(access, polar, current.customer.as_ref()).await?;
    let to_scale = access.state.scale_product == Some(product.id);
    let offered = if to_scale {
        startup_program::invitation(polar, &customer).await?
    } else {
        None
    };
    let claimable = offered.filter(|offer| !offer.is_redeemed());
    let discount = claimable.map(|offer| offer.id);
    let leaves = !to_scale && startup_program::has_program_discount(current, &customer);
    // A discount takes effect at once only together with a product that does
    // (docs/polar-facts.md#proration). Everything else goes by what it costs.
    let at_once = discount.is_some() || price_per_day::is_higher(product, current);
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
        let cancelled = under_lease(&access, cancel_at_period_end).await?;
        Ok(Reply::ok(&cancelled))
    };
    mutation.run_once(access, no_body, act).await
}

async fn cancel_at_period_end(
    change: &mut SubscriptionChange<'_>,
) -> Result<SubscriptionView, ApiError> {
    let current = change.access.subscription(change.polar).await?;
    let mut current = current.ok_or(Refusal::NoActiveSubscription)?;
    if !current.cancel_at_period_end {
        current = change.cancel(&current).await?;
    }
    change.confirm(current).await
}
