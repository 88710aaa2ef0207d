//! The startup program: whoever was invited gets the Scale plan free for a year, once.
//!
//! An invitation is a discount at Polar that can be used once; the customer's metadata point to it. So
//! what is shown follows from the number of its redemptions, and needs no table of ours.

use axum::response::Response;
use jobs::SyncStartupProgram;
use jobs::mirror::api::resumed::Target;
use polar::{
    Customer, Discount, Metadata, OrAbsent, ProductId, ProrationBehavior, Subscription,
    SubscriptionUpdate,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::access::{Access, Manages};
use super::body::json;
use super::error::{ApiError, ErrorBody, FieldError, Refusal};
use super::mutation::{Input, Mutation};
use super::reply::Reply;
use super::subscription::checkout::{Buyer, Checkout, Urls, is_free};
use super::subscription::clear_pending;
use super::subscription::lease::ChangeLease;
use super::subscription::switch::{Switch, confirm, switch};
use super::subscription::view::{SubscriptionView, pending_change};

/// Where an organization stands in the startup program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum StartupStatus {
    /// It may claim the plan.
    Invited,
    /// It has.
    Consumed,
}

/// Whether a subscription's discount is the program's: the only one that a change of plan may take away.
pub(super) fn is_programs(subscription: &Subscription, customer: &Metadata) -> bool {
    let pointed = subscription
        .discount_id
        .is_some_and(|id| SyncStartupProgram::discount_of(customer) == Some(id));
    let discount = subscription.discount.as_ref();
    pointed || discount.is_some_and(|d| d.metadata.text(SyncStartupProgram::MARK) == Some("true"))
}

/// The invitation that a customer has; `None` where there is none, or it is gone.
pub(super) async fn invitation(
    polar: &polar::Client,
    customer: &Metadata,
) -> Result<Option<Discount>, polar::Error> {
    match SyncStartupProgram::discount_of(customer) {
        Some(id) => polar.discounts().get(id).await.or_absent(),
        None => Ok(None),
    }
}

/// Where an invitation stands.
pub(super) fn status_of(invitation: &Discount) -> StartupStatus {
    match invitation.is_redeemed() {
        true => StartupStatus::Consumed,
        false => StartupStatus::Invited,
    }
}

/// The refusal of an invitation that was used before; where that happens just now, only Polar knows it.
pub(super) fn invitation_used_up() -> ApiError {
    FieldError::of_body("the invitation is used up").into()
}

/// Where the organization stands. What cannot be read is shown as nothing: a billing page must not fail
/// because of an offer.
pub(super) async fn status<G>(
    access: &Access<G>,
    polar: &polar::Client,
    known: Option<&Customer>,
) -> Option<StartupStatus> {
    access.state.scale_product?;
    let read = async {
        let metadata = metadata_of(access, polar, known).await?;
        invitation(polar, &metadata).await
    };
    match read.await {
        Ok(invitation) => invitation.as_ref().map(status_of),
        Err(error) => {
            tracing::warn!(organization = %access.organization, %error, "the startup program's status cannot be read");
            None
        }
    }
}

/// What stands at the customer; it is asked for where a subscription came without it.
pub(super) async fn metadata_of<G>(
    access: &Access<G>,
    polar: &polar::Client,
    known: Option<&Customer>,
) -> Result<Metadata, polar::Error> {
    if let Some(customer) = known {
        return Ok(customer.metadata.clone());
    }
    let customer = access.customer(polar).await?;
    Ok(customer
        .map(|customer| customer.metadata)
        .unwrap_or_default())
}

/// Where to go after the checkout.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct ClaimBody {
    #[serde(flatten)]
    urls: Urls,
}

/// What came of a claim: exactly one of the two.
#[derive(Serialize, ToSchema)]
pub(super) struct Claimed {
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
pub(super) async fn claim(access: Access<Manages>, mutation: Mutation) -> Response {
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
    if status_of(&invitation) == StartupStatus::Consumed {
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
