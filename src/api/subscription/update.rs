//! One update of a subscription at Polar, whose result is known also where Polar's answer was lost.

use std::time::Duration;

use polar::{Interruption, Subscription, SubscriptionId, SubscriptionUpdate};

use crate::api::error::{ApiError, Refusal};
use crate::api::startup_program;

/// How often Polar is asked what became of an update whose answer was lost. It may still be at work, for it charges the
/// card before it answers, and shows nothing of the update until then.
const MAX_LOOKS: u32 = 3;
/// Between two of them: with the update itself they end before `ANSWER_TIMEOUT`.
const LOOK_INTERVAL: Duration = Duration::from_millis(1500);

/// Why an update was not made.
pub(super) enum NotMade {
    /// It was not made, and will not be.
    Refused(ApiError),
    /// It may have been made, or may be made still.
    Unknown,
}

impl From<NotMade> for ApiError {
    fn from(not_made: NotMade) -> Self {
        match not_made {
            NotMade::Refused(error) => error,
            NotMade::Unknown => Refusal::Unknown.into(),
        }
    }
}

/// Updates the subscription. Where the answer is lost, or the update may have been made by an earlier request, Polar
/// is asked whether it `is_made` now.
pub(super) async fn update_at_polar(
    polar: &polar::Client,
    id: SubscriptionId,
    update: &SubscriptionUpdate,
    is_made: impl Fn(&Subscription) -> bool,
) -> Result<Subscription, NotMade> {
    let error = match polar.subscriptions().update(id, update).await {
        Ok(subscription) => return Ok(subscription),
        Err(error) => error,
    };
    if !may_be_made(&error) && !may_be_as_wanted(&error) {
        return Err(NotMade::Refused(refused(error)));
    }
    for look in 1.. {
        match polar.subscriptions().get(id).await {
            Ok(subscription) if is_made(&subscription) => return Ok(subscription),
            // Polar has answered, so it is done with the request.
            Ok(_) if is_final(&error) => return Err(NotMade::Refused(refused(error))),
            Ok(_) if look < MAX_LOOKS => tokio::time::sleep(LOOK_INTERVAL).await,
            Ok(_) | Err(_) => break,
        }
    }
    Err(NotMade::Unknown)
}

/// Whether the update may have been made although it was not confirmed.
fn may_be_made(error: &polar::Error) -> bool {
    match error {
        polar::Error::Unreachable { cause, .. } => *cause != Interruption::Connection,
        polar::Error::Unavailable { .. }
        | polar::Error::Intermediary { .. }
        | polar::Error::Unreadable { .. } => true,
        _ => false,
    }
}

/// Whether it may be refused because an earlier request, whose answer was lost, has made it. Polar refuses to
/// cancel what is cancelled, to resume what is not (docs/polar-facts.md#subscription-change), to apply a discount that
/// is applied, and to clear a change that does not wait any more.
fn may_be_as_wanted(error: &polar::Error) -> bool {
    matches!(
        error,
        polar::Error::Forbidden { .. }
            | polar::Error::Invalid(_)
            | polar::Error::Unexpected { status: 400, .. }
    )
}

/// Whether the answer is Polar's own and its last word on the request.
fn is_final(error: &polar::Error) -> bool {
    may_be_as_wanted(error) || matches!(error, polar::Error::Unavailable { status: 500, .. })
}

/// The answer to an update that Polar refused.
fn refused(error: polar::Error) -> ApiError {
    if !error.faults_at(&["discount_id"]).is_empty() {
        return startup_program::invitation_used_up();
    }
    match error {
        polar::Error::Invalid(_) => Refusal::PlanGone.into(),
        polar::Error::NotFound { .. } | polar::Error::Unexpected { status: 400, .. } => {
            Refusal::SubscriptionEnded.into()
        }
        error => error.into(),
    }
}
