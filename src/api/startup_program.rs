//! The startup program: whoever was invited gets the Scale plan free for a year, once.
//!
//! An invitation is a discount at Polar that can be used once; the customer's metadata hold its id. Whether it was
//! used is known from the number of its redemptions, so it needs no table of ours.

use jobs::SyncStartupProgram;
use polar::{Customer, Discount, Metadata, OrAbsent, Subscription};
use serde::Serialize;
use utoipa::ToSchema;

use super::access::Access;
use super::error::{ApiError, FieldError};

/// Where an organization stands in the startup program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum StartupStatus {
    /// It may claim the plan.
    Invited,
    /// It has.
    Consumed,
}

impl StartupStatus {
    fn of(invitation: &Discount) -> Self {
        match invitation.is_redeemed() {
            true => Self::Consumed,
            false => Self::Invited,
        }
    }
}

/// Whether a subscription's discount is that of the program, the only one that a change of plan may remove.
pub(super) fn has_program_discount(subscription: &Subscription, customer: &Metadata) -> bool {
    let pointed = subscription
        .discount_id
        .is_some_and(|id| SyncStartupProgram::discount_of(customer) == Some(id));
    let discount = subscription.discount.as_ref();
    pointed || discount.is_some_and(|d| d.metadata.text(SyncStartupProgram::MARK) == Some("true"))
}

/// Returns the invitation that a customer has; `None` where there is none, or it is gone.
pub(super) async fn invitation(
    polar: &polar::Client,
    customer: &Metadata,
) -> Result<Option<Discount>, polar::Error> {
    match SyncStartupProgram::discount_of(customer) {
        Some(id) => polar.discounts().get(id).await.or_absent(),
        None => Ok(None),
    }
}

/// The refusal of an invitation that was used before; where that happens just now, only Polar knows it.
pub(super) fn invitation_used_up() -> ApiError {
    FieldError::of_body("the invitation is used up").into()
}

/// Returns the organization's status; `None` also where it cannot be read, for a billing page must not fail because
/// of an offer.
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
        Ok(invitation) => invitation.as_ref().map(StartupStatus::of),
        Err(error) => {
            tracing::warn!(organization = %access.organization, %error, "the startup program's status cannot be read");
            None
        }
    }
}

/// Returns the customer's metadata; Polar is asked for them where the customer is not known yet.
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
