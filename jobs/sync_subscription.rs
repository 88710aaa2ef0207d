//! Makes our mirror of an organization's subscription equal the one in force at Polar.
//!
//! A delivery about a subscription is only a reason to ask. One about a customer's state says by
//! itself whether there is a reason; it has a key of its own, so that it never decides for a job
//! that has another one.

use std::time::Duration;

use polar::{CustomerRef, EventType, OrAbsent, Peek, Subscription, SubscriptionStatus};
use serde::{Deserialize, Serialize};

use crate::ApplyBenefits;
use crate::contract::{Context, Done, Error, Job, NewJob};
use crate::customer::{CustomerIds, Readiness, or_out_of_step, state};
use crate::mirror::subscriptions::{self, AllTerms};
use crate::mirror::{answers, unfinished_jobs};
use crate::types::OrganizationId;

/// Read a customer's subscriptions and keep the one in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncSubscription {
    /// Whose subscriptions.
    #[serde(flatten)]
    pub customer: CustomerIds,
    /// The deliveries tell the customer's state: Polar is asked, about grants too, only where they
    /// say something else than what is held here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub state_changed: bool,
}

impl SyncSubscription {
    /// The job that a delivery about a subscription or a customer's state starts.
    #[must_use]
    pub fn for_delivery(peek: &Peek) -> Self {
        Self {
            customer: CustomerIds::of_delivery(peek),
            state_changed: peek.event_type == Some(EventType::CustomerStateChanged),
        }
    }

    /// The job that asks for one organization, without a delivery.
    #[must_use]
    pub fn of(organization: OrganizationId) -> Self {
        Self {
            customer: CustomerIds::of(organization),
            state_changed: false,
        }
    }
}

impl Job for SyncSubscription {
    const KIND: &'static str = "sync_subscription";
    const SYNCS: bool = true;

    /// A burst about one customer collapses into one question.
    fn unique_key(&self) -> Option<String> {
        let reason = if self.state_changed { "state/" } else { "" };
        Some(format!("{}/{reason}{}", Self::KIND, self.customer.key()?))
    }

    fn ordering_key(&self) -> Option<String> {
        self.unique_key()
    }

    async fn run(self, context: &Context) -> Result<Done, Error> {
        match self.customer.readiness(context).await? {
            Readiness::Done(done) => Ok(done),
            Readiness::Ready(_, organization) if self.state_changed => {
                compare(context, organization).await
            }
            Readiness::Ready(polar, organization) => {
                let synced = sync(context, polar, organization).await;
                or_out_of_step(context, organization, synced).await
            }
        }
    }
}

/// How long to wait for the jobs that ask Polar already, and how often. Mostly the same change has started them.
const OTHERS_ASK: Duration = Duration::from_secs(1);
const WAITS: i32 = 5;

const HELD: &str = "the customer's state is what is held here";

/// Compares a customer's state with what is held. The delivery of the state may be all that we hear of a grant or a
/// subscription whose own delivery was lost. Mostly none was lost, and their jobs bring the same: they go first.
async fn compare(context: &Context, organization: OrganizationId) -> Result<Done, Error> {
    if state::is_held(context, organization).await? {
        return Ok(Done::ignored(HELD));
    }
    let (grants, subscriptions) = (
        ApplyBenefits::of(organization),
        SyncSubscription::of(organization),
    );
    let keys: Vec<String> = [grants.ordering_key(), subscriptions.ordering_key()]
        .into_iter()
        .flatten()
        .collect();
    if context.job.attempt <= WAITS && unfinished_jobs::is_under_way(&context.pool, &keys).await? {
        return Err(Error::not_yet("other jobs ask Polar already", OTHERS_ASK));
    }
    // They may have ended between the two looks.
    if state::is_held(context, organization).await? {
        return Ok(Done::ignored(HELD));
    }
    Ok(Done::applied().then([NewJob::of(&grants), NewJob::of(&subscriptions)]))
}

async fn sync(
    context: &Context,
    polar: &polar::Client,
    organization: OrganizationId,
) -> Result<Done, Error> {
    let answer_number = answers::next_answer_number(&context.pool).await?;
    let external_id = organization.to_string();
    let all = polar
        .subscriptions()
        .all(CustomerRef::External(&external_id))
        .await?;
    let found = match to_keep(&all) {
        Some(found) => Some(AllTerms::of(found, product_name(polar, found).await?)),
        None => None,
    };
    let mut transaction = context.begin().await?;
    let found = found.as_ref();
    let written = subscriptions::write(&mut transaction, organization, found, answer_number);
    Ok(match written.await? {
        true => Done::applied().within(transaction),
        false => Done::ignored("a later answer was applied before"),
    })
}

/// Of all subscriptions, newest first, the one in force: the newest that is trialing, active or past
/// due, else the newest that is paused. Without one in force the newest that ended, so that people
/// can see what was; one that never began comes last.
pub(crate) fn to_keep(newest_first: &[Subscription]) -> Option<&Subscription> {
    let rank = |subscription: &&Subscription| match &subscription.status {
        status if status.is_in_force() => 0,
        SubscriptionStatus::Paused => 1,
        SubscriptionStatus::Canceled | SubscriptionStatus::Unpaid => 2,
        _ => 3,
    };
    // Of equal ones the first is the minimum.
    newest_first.iter().min_by_key(rank)
}

/// The plan's name; the list usually carries it.
async fn product_name(polar: &polar::Client, subscription: &Subscription) -> Result<String, Error> {
    if let Some(product) = &subscription.product {
        return Ok(product.name.clone());
    }
    let product = polar
        .products()
        .get(subscription.product_id)
        .await
        .or_absent()?;
    Ok(product.map_or_else(
        || subscription.product_id.to_string(),
        |product| product.name,
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn subscription(status: &str) -> Subscription {
        serde_json::from_value(
            json!({"id": Uuid::new_v4(), "status": status, "customer_id": Uuid::new_v4(),
            "product_id": Uuid::new_v4(), "created_at": "2026-08-14T09:12:09Z"}),
        )
        .unwrap()
    }

    /// Each list is newest first; the answer is a place in it.
    #[test]
    fn the_newest_in_force_is_kept_else_the_newest_paused_else_the_newest_that_ended() {
        let cases: [(&[&str], Option<usize>); 11] = [
            (&[], None),
            (&["canceled", "active"], Some(1)),
            (&["canceled", "unpaid", "past_due", "active"], Some(2)),
            (&["trialing", "active"], Some(0)),
            (&["paused", "past_due"], Some(1)),
            (&["canceled", "paused", "paused"], Some(1)),
            (&["incomplete", "active"], Some(1)),
            (&["incomplete", "canceled", "unpaid"], Some(1)),
            (&["incomplete_expired", "unpaid"], Some(1)),
            (&["incomplete"], Some(0)),
            (&["of_a_later_release", "active"], Some(1)),
        ];
        for (statuses, wanted) in cases {
            let all: Vec<Subscription> =
                statuses.iter().map(|status| subscription(status)).collect();
            let kept = to_keep(&all).map(|kept| kept.id);
            assert_eq!(kept, wanted.map(|place| all[place].id), "{statuses:?}");
        }
    }
}
