//! Claiming the plan of the startup program.

use axum::response::Response;
use jobs::mirror::api::resumed::Target;
use polar::{Discount, OrAbsent, ProductId, ProrationBehavior, Subscription, SubscriptionUpdate};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::change::{SubscriptionChange, under_lease};
use super::checkout::{Buyer, Checkout, Urls, is_free};
use super::switch::Switch;
use super::view::{SubscriptionView, pending_change};
use crate::api::access::{Access, Manages};
use crate::api::body::json;
use crate::api::error::{ApiError, ErrorBody, FieldError, Refusal};
use crate::api::mutation::{Input, Mutation};
use crate::api::reply::Reply;
use crate::api::startup_program::{invitation, invitation_used_up};

/// Where to go after the checkout.
#[derive(Debug, Deserialize, ToSchema)]
pub(in crate::api) struct ClaimBody {
    #[serde(flatten)]
    urls: Urls,
}

/// What came of a claim: exactly one of the two.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct Claimed {
    /// Where the plan is taken; for an organization without a paid subscription.
    checkout: Option<Checkout>,
    /// The subscription, which has the plan now.
    subscription: Option<SubscriptionView>,
}

impl Claimed {
    fn checkout(checkout: Checkout) -> Self {
        Self {
            checkout: Some(checkout),
            subscription: None,
        }
    }

    fn subscription(subscription: SubscriptionView) -> Self {
        Self {
            checkout: None,
            subscription: Some(subscription),
        }
    }
}

/// Takes the Scale plan with the discount of an invitation.
#[utoipa::path(
    post,
    path = "/v1/organizations/{organization_id}/startup-program/claim",
    tag = "Subscription",
    params(("organization_id" = Uuid, Path, description = "The application's id of the organization")),
    request_body = ClaimBody,
    responses(
        (status = 200, description = "A checkout, or the subscription", body = Claimed),
        (status = 402, description = "The card was declined; nothing has changed", body = ErrorBody),
    ),
)]
pub(in crate::api) async fn claim(access: Access<Manages>, mutation: Mutation) -> Response {
    let act = async |access: Access<Manages>, input: Input<ClaimBody>| {
        let claimed = under_lease(&access, async |change| claim_plan(change, &input).await);
        Ok(Reply::ok(&claimed.await?))
    };
    mutation.run_once(access, json::<ClaimBody>, act).await
}

async fn claim_plan(
    change: &mut SubscriptionChange<'_>,
    input: &Input<ClaimBody>,
) -> Result<Claimed, ApiError> {
    let (access, polar) = (change.access, change.polar);
    access.require_approved()?;
    let scale = access
        .state
        .scale_product
        .ok_or_else(|| FieldError::of_body("there is no startup program"))?;
    let not_invited = || FieldError::of_body("the organization is not invited");
    let buyer = Buyer::find(change).await?.ok_or_else(not_invited)?;
    let invitation = invitation(polar, &buyer.customer.metadata).await?;
    let invitation = invitation.ok_or_else(not_invited)?;
    let paid = buyer.subscription.as_ref().filter(|s| !is_free(s));
    if invitation.is_redeemed() {
        let claimed =
            paid.filter(|s| s.discount_id == Some(invitation.id) && s.product_id == scale);
        return used_up(change, claimed, input.resumed).await;
    }
    let product = polar.products().get(scale).await.or_absent()?;
    let product = product
        .filter(|p| !p.is_archived)
        .ok_or(Refusal::PlanGone)?;
    let Some(subscription) = paid else {
        let (discount, urls) = (Some(invitation.id), &input.body.urls);
        let checkout = buyer.checkout(change, &product, discount, urls, input.address);
        return Ok(Claimed::checkout(checkout.await?));
    };
    let wanted = switch_to(scale, &invitation, subscription);
    let changed = change.switch(subscription, &wanted).await?;
    let changed = without_pending_change(change, changed).await;
    Ok(Claimed::subscription(change.confirm(changed).await?))
}

/// Whoever had Scale and was about to leave it would lose what they claim with the next period.
async fn without_pending_change(
    change: &mut SubscriptionChange<'_>,
    changed: Subscription,
) -> Subscription {
    if pending_change(&changed).is_none() {
        return changed;
    }
    match change.clear_pending(&changed).await {
        Ok(cleared) => cleared,
        // The answer shows that it still waits; choosing the plan that the subscription has takes it back.
        Err(error) => {
            tracing::warn!(organization = %change.access.organization, ?error, "a change of plan still waits after a claim");
            changed
        }
    }
}

/// The answer where the invitation is used up; `claimed` is the subscription that has the plan through it.
async fn used_up(
    change: &SubscriptionChange<'_>,
    claimed: Option<&Subscription>,
    resumed: bool,
) -> Result<Claimed, ApiError> {
    match claimed {
        // This very claim was made, and its answer was lost.
        Some(subscription) if resumed => {
            let view = change.confirm(subscription.clone()).await?;
            Ok(Claimed::subscription(view))
        }
        _ => Err(invitation_used_up()),
    }
}

/// The change that brings the plan with the discount of the invitation; without a change of plan where it is there.
fn switch_to(scale: ProductId, invitation: &Discount, subscription: &Subscription) -> Switch {
    let update = if subscription.product_id == scale {
        SubscriptionUpdate::Discount {
            discount_id: Some(invitation.id),
        }
    } else {
        SubscriptionUpdate::Plan {
            product_id: scale,
            proration_behavior: ProrationBehavior::Invoice,
            discount_id: Some(Some(invitation.id)),
        }
    };
    Switch {
        target: Target {
            product: scale,
            discount: Some(invitation.id),
        },
        update,
    }
}
