//! Claiming the plan of the startup program.

use axum::response::Response;
use jobs::mirror::api::resumed::Target;
use polar::{Discount, OrAbsent, ProductId, ProrationBehavior, Subscription, SubscriptionUpdate};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::access::{Access, Manages};
use super::super::body::json;
use super::super::error::{ApiError, ErrorBody, FieldError, Refusal};
use super::super::mutation::{Input, Mutation};
use super::super::reply::Reply;
use super::super::startup_program::{invitation, invitation_used_up};
use super::checkout::{Buyer, Checkout, Urls, is_free};
use super::clear_pending;
use super::lease::ChangeLease;
use super::switch::{Switch, confirm, switch};
use super::view::{SubscriptionView, pending_change};

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
    mutation
        .run_once(access, json::<ClaimBody>, claim_now)
        .await
}

async fn claim_now(access: Access<Manages>, input: Input<ClaimBody>) -> Result<Reply, ApiError> {
    let lease = ChangeLease::acquire(&access).await?;
    let claimed = claim_alone(&access, &lease, &input).await;
    lease.release().await;
    Ok(Reply::ok(&claimed?))
}

async fn claim_alone(
    access: &Access<Manages>,
    lease: &ChangeLease,
    input: &Input<ClaimBody>,
) -> Result<Claimed, ApiError> {
    let polar = access.polar()?;
    access.approved()?;
    let scale = access
        .state
        .scale_product
        .ok_or_else(|| FieldError::of_body("there is no startup program"))?;
    let not_invited = || FieldError::of_body("the organization is not invited");
    let buyer = Buyer::find(access, polar).await?.ok_or_else(not_invited)?;
    let invitation = invitation(polar, &buyer.customer.metadata).await?;
    let invitation = invitation.ok_or_else(not_invited)?;
    let paid = buyer.subscription.as_ref().filter(|s| !is_free(s));
    if invitation.is_redeemed() {
        let claimed =
            paid.filter(|s| s.discount_id == Some(invitation.id) && s.product_id == scale);
        return used_up(access, lease, claimed, input.resumed).await;
    }
    let product = polar.products().get(scale).await.or_absent()?;
    let product = product
        .filter(|p| !p.is_archived)
        .ok_or(Refusal::PlanGone)?;
    let Some(subscription) = paid else {
        let urls = &input.body.urls;
        let checkout = buyer
            .checkout(
                access,
                polar,
                &product,
                Some(invitation.id),
                urls,
                input.address,
            )
            .await?;
        return Ok(Claimed::checkout(checkout));
    };
    let wanted = switch_to(scale, &invitation, subscription);
    let mut changed = switch(access, lease, subscription, &wanted).await?;
    // Whoever had Scale and was about to leave it would lose what they claim with the next period.
    if pending_change(&changed).is_some() {
        match clear_pending(access, lease, &changed).await {
            Ok(cleared) => changed = cleared,
            // The answer shows that it still waits; the plan that it has takes it back.
            Err(error) => {
                tracing::warn!(organization = %access.organization, ?error, "a change of plan still waits after a claim");
            }
        }
    }
    let view = confirm(access, lease, changed).await?;
    Ok(Claimed::subscription(view))
}

/// The answer where the invitation is used up; `claimed` is the subscription that has the plan through it.
async fn used_up(
    access: &Access<Manages>,
    lease: &ChangeLease,
    claimed: Option<&Subscription>,
    resumed: bool,
) -> Result<Claimed, ApiError> {
    match claimed {
        // This very claim was made, and its answer was lost.
        Some(subscription) if resumed => {
            let view = confirm(access, lease, subscription.clone()).await?;
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
