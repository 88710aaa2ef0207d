//! The updates that a change of the subscription is made of.
//!
//! Polar changes the plan of no cancelled subscription, so a cancellation is taken back first. Where the
//! change then fails it is restored: at once, or, where this process dies or cannot know what became of
//! the change, by a job that was written before.

use jobs::mirror::api::resumed::Target;
use polar::{ProrationBehavior, Subscription, SubscriptionId, SubscriptionUpdate};

use super::change::{Resumption, SubscriptionChange};
use super::update::{NotMade, update_at_polar};
use super::view;
use crate::api::error::ApiError;

/// A change of plan, or of the discount on it.
pub(super) struct Switch {
    /// What there is in the end.
    pub(super) target: Target,
    /// What is asked of Polar.
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

impl SubscriptionChange<'_> {
    /// Brings the subscription to the plan, taking a cancellation back for it.
    pub(super) async fn switch(
        &mut self,
        current: &Subscription,
        wanted: &Switch,
    ) -> Result<Subscription, ApiError> {
        let was_cancelled = current.cancel_at_period_end;
        if was_cancelled {
            let resumption = Resumption::Begin(current, wanted.target);
            self.resume(current.id, resumption).await?;
        }
        self.before_update(Resumption::Retarget(current, wanted.target))
            .await?;
        let is_made = |s: &Subscription| wanted.target.is_reached(s);
        let updated = update_at_polar(self.polar, current.id, &wanted.update, is_made).await;
        if was_cancelled && matches!(updated, Err(NotMade::Refused(_))) {
            self.restore_cancellation(current.id).await;
        }
        Ok(updated?)
    }

    /// Takes the cancellation back.
    pub(super) async fn resume(
        &mut self,
        id: SubscriptionId,
        resumption: Resumption<'_>,
    ) -> Result<Subscription, ApiError> {
        let resumed = |s: &Subscription| !s.cancel_at_period_end;
        self.make(resumption, id, &SubscriptionUpdate::RESUME, resumed)
            .await
    }

    /// Takes a change back that waits for the end of the period.
    pub(super) async fn clear_pending(
        &mut self,
        current: &Subscription,
    ) -> Result<Subscription, ApiError> {
        let clear = SubscriptionUpdate::CLEAR_PENDING;
        let cleared = |s: &Subscription| view::pending_change(s).is_none();
        self.make(Resumption::End(current), current.id, &clear, cleared)
            .await
    }

    /// Ends the subscription with its period.
    pub(super) async fn cancel(
        &mut self,
        current: &Subscription,
    ) -> Result<Subscription, ApiError> {
        let cancel = SubscriptionUpdate::CANCEL;
        let cancelled = |s: &Subscription| s.cancel_at_period_end || s.ended_at.is_some();
        self.make(
            Resumption::CancelAnew(current),
            current.id,
            &cancel,
            cancelled,
        )
        .await
    }

    async fn make(
        &mut self,
        resumption: Resumption<'_>,
        id: SubscriptionId,
        update: &SubscriptionUpdate,
        is_made: impl Fn(&Subscription) -> bool,
    ) -> Result<Subscription, ApiError> {
        self.before_update(resumption).await?;
        Ok(update_at_polar(self.polar, id, update, is_made).await?)
    }

    /// Cancels again, as it was before. Where that fails, the job does it, and finds nothing to do otherwise.
    async fn restore_cancellation(&mut self, id: SubscriptionId) {
        let cancelled = |s: &Subscription| s.cancel_at_period_end;
        let cancel = SubscriptionUpdate::CANCEL;
        let Ok(restored) = self.make(Resumption::Keep, id, &cancel, cancelled).await else {
            return;
        };
        if let Err(error) = self.end_resumption(&restored).await {
            tracing::warn!(organization = %self.access.organization, %error, "the row of a restored cancellation stays");
        }
    }
}
