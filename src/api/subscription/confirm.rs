//! The end of a change: what Polar answered is brought into our tables.

use jobs::mirror::subscriptions::{self, AllTerms};
use jobs::{ApplyBenefits, NewJob, SyncSubscription};
use polar::Subscription;

use super::change::SubscriptionChange;
use super::view::{self, SubscriptionView};
use crate::api::error::ApiError;
use crate::queue::enqueue;

impl SubscriptionChange<'_> {
    /// Writes what Polar answered into our tables, with the jobs that follow from it. Where nothing had to be changed,
    /// the person has decided all the same, and nothing restores a cancellation any more.
    pub(super) async fn confirm(
        &self,
        subscription: Subscription,
    ) -> Result<SubscriptionView, ApiError> {
        match self.answer_number {
            None => self.end_resumption(&subscription).await?,
            Some(answer_number) => {
                if let Err(error) = self.mirror(&subscription, answer_number).await {
                    // The change is made, and the job that was written before it brings it into our tables.
                    tracing::warn!(organization = %self.access.organization, %error, "a change is mirrored later");
                }
            }
        }
        view::of(self.access, self.polar, Some(&subscription)).await
    }

    async fn mirror(
        &self,
        subscription: &Subscription,
        answer_number: i64,
    ) -> Result<(), sqlx::Error> {
        let organization = self.access.organization;
        let mut transaction = jobs::contract::begin(&self.access.state.pool).await?;
        if let Some(product) = &subscription.product {
            let found = AllTerms::of(subscription, product.name.clone());
            subscriptions::write(&mut transaction, organization, Some(&found), answer_number)
                .await?;
        }
        self.end_resumption_in(&mut transaction, subscription)
            .await?;
        let follow_ups = [
            NewJob::of(&SyncSubscription::of(organization)),
            NewJob::of(&ApplyBenefits::of(organization)),
        ];
        enqueue::insert_all(&mut transaction, &follow_ups).await?;
        transaction.commit().await?;
        self.access.state.wake();
        Ok(())
    }
}
