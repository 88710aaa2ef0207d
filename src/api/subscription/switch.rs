//! Changes a subscription at Polar so that its answer is the truth, whatever happens on the way.
//!
//! Polar changes the plan of no cancelled subscription, so a cancellation is taken back first. Where the
//! change then fails it is restored: at once, or, where this process dies or cannot know what became of
//! the change, by a job that was written before.

use std::time::Duration;

use jobs::mirror::api::resumed::Target;
use jobs::mirror::subscriptions;
use jobs::{ApplyBenefits, NewJob, SyncSubscription};
use polar::{Interruption, ProrationBehavior, Subscription, SubscriptionId, SubscriptionUpdate};

use super::super::access::Access;
use super::super::error::{ApiError, Refusal};
use super::super::startup_program;
use super::lease::{ChangeLease, Note};
use super::view::{self, SubscriptionView};
use crate::queue::enqueue;

/// How often Polar is asked what became of a change whose answer was lost. It may still be at work, for it charges the
/// card before it answers, and shows nothing of the change until then.
const LOOKS: u32 = 3;
/// Between two of them: with the change itself they end before the caller's time does.
const BETWEEN_LOOKS: Duration = Duration::from_millis(1500);

/// A change of plan, or of the discount on it.
pub(super) struct Switch {
    /// What there is in the end.
    pub(super) target: Target,
    /// What Polar is told.
    pub(super) update: SubscriptionUpdate,
}

impl Switch {
    /// Whether it waits for the end of the period already, and nothing about it is to be brought forward.
    pub(super) fn waits(&self, current: &Subscription) -> bool {
        let at_period_end = matches!(
            self.update,
            SubscriptionUpdate::Plan {
                proration_behavior: ProrationBehavior::NextPeriod,
                discount_id: None,
                ..
            }
        );
        at_period_end && !current.cancel_at_period_end && self.target.is_reached(current)
    }
}

/// Why a change was not made.
struct NotMade {
    error: ApiError,
    /// Whether it is known that it was not, and will not be.
    for_certain: bool,
}

impl From<ApiError> for NotMade {
    fn from(error: ApiError) -> Self {
        Self {
            error,
            for_certain: true,
        }
    }
}

/// Brings the subscription to the plan, taking a cancellation back for it.
pub(super) async fn switch<G>(
    access: &Access<G>,
    lease: &ChangeLease,
    current: &Subscription,
    wanted: &Switch,
) -> Result<Subscription, ApiError> {
    if current.cancel_at_period_end {
        resume(access, lease, current, wanted.target).await?;
    }
    lease
        .before_change(Note::Retarget(current, wanted.target))
        .await?;
    let is_made = |s: &Subscription| wanted.target.is_reached(s);
    let told = tell(access, current.id, &wanted.update, is_made).await;
    if let Err(not_made) = &told
        && not_made.for_certain
        && current.cancel_at_period_end
    {
        restore(access, lease, current.id).await;
    }
    told.map_err(|not_made| not_made.error)
}

/// Makes one change that says whether the subscription goes on. What is noted of it comes before.
pub(super) async fn make<G>(
    access: &Access<G>,
    id: SubscriptionId,
    update: &SubscriptionUpdate,
    is_made: impl Fn(&Subscription) -> bool,
) -> Result<Subscription, ApiError> {
    let told = tell(access, id, update, is_made).await;
    told.map_err(|not_made| not_made.error)
}

/// Takes the cancellation back; a job that restores it stands by.
async fn resume<G>(
    access: &Access<G>,
    lease: &ChangeLease,
    current: &Subscription,
    target: Target,
) -> Result<(), ApiError> {
    lease.before_change(Note::Write(current, target)).await?;
    let resume = SubscriptionUpdate::RESUME;
    make(access, current.id, &resume, |s| !s.cancel_at_period_end).await?;
    Ok(())
}

/// Cancels again, as it was before. Where that fails, the job does it, and finds nothing to do otherwise.
async fn restore<G>(access: &Access<G>, lease: &ChangeLease, id: SubscriptionId) {
    if lease.before_change(Note::Keep).await.is_err() {
        return;
    }
    let cancel = SubscriptionUpdate::CANCEL;
    let restored = tell(access, id, &cancel, |s| s.cancel_at_period_end).await;
    if let Ok(restored) = restored
        && let Err(error) = end_note(access, lease, &restored).await
    {
        tracing::warn!(organization = %access.organization, %error, "a note of a restored cancellation stays");
    }
}

async fn end_note<G>(
    access: &Access<G>,
    lease: &ChangeLease,
    found: &Subscription,
) -> Result<(), sqlx::Error> {
    let mut transaction = jobs::contract::begin(&access.state.pool).await?;
    lease.end_note(&mut transaction, found).await?;
    transaction.commit().await
}

/// Tells Polar. Where the answer is lost Polar is asked what is there now.
async fn tell<G>(
    access: &Access<G>,
    id: SubscriptionId,
    update: &SubscriptionUpdate,
    is_made: impl Fn(&Subscription) -> bool,
) -> Result<Subscription, NotMade> {
    let polar = access.polar().map_err(ApiError::from)?;
    let error = match polar.subscriptions().update(id, update).await {
        Ok(subscription) => return Ok(subscription),
        Err(error) => error,
    };
    let looks_back = may_be_made(&error) || may_be_as_wanted(&error);
    if !looks_back {
        return Err(refused(error).into());
    }
    for look in 1.. {
        match polar.subscriptions().get(id).await {
            Ok(subscription) if is_made(&subscription) => return Ok(subscription),
            // Polar has answered, so it is done with the request.
            Ok(_) if is_final(&error) => return Err(refused(error).into()),
            Ok(_) if look < LOOKS => tokio::time::sleep(BETWEEN_LOOKS).await,
            Ok(_) | Err(_) => break,
        }
    }
    Err(NotMade {
        error: Refusal::Unknown.into(),
        for_certain: false,
    })
}

/// Whether the change may have been made although it was not confirmed.
fn may_be_made(error: &polar::Error) -> bool {
    match error {
        polar::Error::Unreachable { cause, .. } => *cause != Interruption::Connection,
        polar::Error::Unavailable { .. }
        | polar::Error::Intermediary { .. }
        | polar::Error::Unreadable { .. } => true,
        _ => false,
    }
}

/// Whether it may be refused because it is so already, by an earlier request whose answer was lost. Polar refuses to
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

/// What the caller hears of a refused change.
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

/// Brings what Polar answered into our tables, and lets jobs look after what follows from it. Where the
/// subscription was found as it is wanted, the person has decided all the same, and nothing restores a
/// cancellation any more.
pub(super) async fn confirm<G>(
    access: &Access<G>,
    lease: &ChangeLease,
    subscription: Subscription,
) -> Result<SubscriptionView, ApiError> {
    let polar = access.polar()?;
    match lease.asked() {
        None => end_note(access, lease, &subscription).await?,
        Some(asked) => {
            if let Err(error) = mirror(access, lease, asked, &subscription).await {
                // The change is made and a job is written that will see it: the answer stays the truth.
                tracing::warn!(organization = %access.organization, %error, "a change is mirrored later");
            }
        }
    }
    view::of(access, polar, Some(&subscription)).await
}

async fn mirror<G>(
    access: &Access<G>,
    lease: &ChangeLease,
    asked: i64,
    subscription: &Subscription,
) -> Result<(), sqlx::Error> {
    let organization = access.organization;
    let mut transaction = jobs::contract::begin(&access.state.pool).await?;
    if let Some(product) = &subscription.product {
        let found = Some((subscription, product.name.as_str()));
        subscriptions::write(&mut transaction, organization, found, asked).await?;
    }
    lease.end_note(&mut transaction, subscription).await?;
    let follow_ups = [
        NewJob::of(&SyncSubscription::of(organization)),
        NewJob::of(&ApplyBenefits::of(organization)),
    ];
    enqueue::insert_all(&mut transaction, &follow_ups).await?;
    transaction.commit().await?;
    access.state.wake();
    Ok(())
}
