//! Tells an organization's billing contacts that its subscription was cancelled, is past due, or ended.
//!
//! A delivery only says which of the three to look for. Whether it is so is decided on the subscription as it
//! is now: a debt that was paid meanwhile, or a cancellation that was taken back, is no news any more. One that we made
//! again after a change of plan that failed is the one that was told before.

use chrono::{DateTime, SecondsFormat, Utc};
use polar::{EventType, OrAbsent, Peek, Subscription, SubscriptionId, SubscriptionStatus};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::SendEmail;
use crate::contract::{Context, Done, Error, Job, NewJob, Queue, priority};
use crate::customer::{CustomerIds, Readiness};
use crate::mail::{MailData, Money, NewMail, Template, billing_contacts};
use crate::mirror::api::resumed;
use crate::types::OrganizationId;

/// The mails about one change of a subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendSubscriptionEmail {
    /// Whose subscription.
    #[serde(flatten)]
    pub customer: CustomerIds,
    /// Polar's id of it.
    pub subscription_id: Uuid,
    /// What to look for.
    pub change: SubscriptionChange,
}

/// What people are told about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubscriptionChange {
    /// A cancellation was asked for.
    Canceled,
    /// A renewal could not be charged.
    PastDue,
    /// Access ended.
    Revoked,
}

impl SendSubscriptionEmail {
    /// The job that a delivery about a subscription starts; `None` where nobody is told.
    #[must_use]
    pub fn for_delivery(peek: &Peek) -> Option<NewJob> {
        let change = match peek.event_type.as_ref()? {
            EventType::SubscriptionCanceled => SubscriptionChange::Canceled,
            EventType::SubscriptionPastDue => SubscriptionChange::PastDue,
            EventType::SubscriptionRevoked => SubscriptionChange::Revoked,
            _ => return None,
        };
        Some(NewJob::of(&Self {
            customer: CustomerIds::of_delivery(peek),
            subscription_id: peek.subscription_id?.0,
            change,
        }))
    }
}

impl Job for SendSubscriptionEmail {
    const KIND: &'static str = "send_subscription_email";
    const QUEUE: Queue = Queue::Mail;
    const PRIORITY: i16 = priority::MAIL;

    fn unique_key(&self) -> Option<String> {
        let change = match self.change {
            SubscriptionChange::Canceled => "canceled",
            SubscriptionChange::PastDue => "past_due",
            SubscriptionChange::Revoked => "revoked",
        };
        Some(format!("{}/{change}/{}", Self::KIND, self.subscription_id))
    }

    fn ordering_key(&self) -> Option<String> {
        self.unique_key()
    }

    async fn run(self, context: &Context) -> Result<Done, Error> {
        let (polar, organization) = match self.customer.readiness(context).await? {
            Readiness::Done(done) => return Ok(done),
            Readiness::Ready(polar, organization) => (polar, organization),
        };
        let id = SubscriptionId(self.subscription_id);
        let Some(mut subscription) = polar.subscriptions().get(id).await.or_absent()? else {
            return Ok(Done::ignored("Polar has no such subscription"));
        };
        // Nothing is to be paid under a full discount either, but what ends then is a paid plan.
        if subscription.amount == 0 && subscription.discount_id.is_none() {
            return Ok(Done::ignored("the subscription is free"));
        }
        if self.change == SubscriptionChange::Canceled {
            let connection = &mut *context.pool.acquire().await?;
            subscription.canceled_at =
                resumed::first_canceled_at(connection, organization, &subscription).await?;
        }
        match self.change.occasion(&subscription) {
            Ok(occasion) => mail(context, polar, organization, &subscription, occasion).await,
            Err(reason) => Ok(Done::ignored(reason)),
        }
    }
}

/// A change that holds.
struct Occasion {
    template: Template,
    /// What tells it from the next one of the same subscription.
    at: DateTime<Utc>,
    ends_at: Option<DateTime<Utc>>,
}

impl SubscriptionChange {
    /// The occasion, if the subscription is as the delivery said; else why there is none.
    fn occasion(self, subscription: &Subscription) -> Result<Occasion, &'static str> {
        let occasion = |template, at, ends_at| Occasion {
            template,
            at,
            ends_at,
        };
        match self {
            Self::Canceled => {
                let at = subscription
                    .canceled_at
                    .ok_or("the cancellation was taken back")?;
                let ends_at = subscription.ended_at.or(subscription.ends_at);
                Ok(occasion(Template::SubscriptionCancellation, at, ends_at))
            }
            Self::PastDue => {
                if subscription.status != SubscriptionStatus::PastDue {
                    return Err("the subscription is past due no longer");
                }
                let began = subscription.current_period_start;
                let at = began.or(subscription.past_due_at);
                let at = at.unwrap_or(subscription.created_at);
                Ok(occasion(Template::SubscriptionPastDue, at, None))
            }
            Self::Revoked => {
                let at = subscription
                    .ended_at
                    .ok_or("the subscription has not ended")?;
                Ok(occasion(Template::SubscriptionRevoked, at, Some(at)))
            }
        }
    }
}

async fn mail(
    context: &Context,
    polar: &polar::Client,
    organization: OrganizationId,
    subscription: &Subscription,
    occasion: Occasion,
) -> Result<Done, Error> {
    let recipients =
        billing_contacts(&context.pool, polar, organization, subscription.customer_id).await?;
    if recipients.is_empty() {
        return Ok(Done::ignored("the customer has no billing contacts"));
    }
    let mail = NewMail {
        template: occasion.template,
        recipients,
        organization: Some(organization),
        order: None,
        subscription: Some(subscription.id.0),
        occasion: occasion.at.to_rfc3339_opts(SecondsFormat::Micros, true),
        data: data(polar, subscription, &occasion).await?,
    };
    let mut transaction = context.begin().await?;
    let jobs = SendEmail::request(&mut transaction, &mail).await?;
    if jobs.is_empty() {
        return Ok(Done::ignored("these mails were asked for before"));
    }
    Ok(Done::applied().then(jobs).within(transaction))
}

async fn data(
    polar: &polar::Client,
    subscription: &Subscription,
    occasion: &Occasion,
) -> Result<MailData, Error> {
    let plan = match &subscription.product {
        Some(product) => Some(product.name.clone()),
        None => {
            let product = polar.products().get(subscription.product_id).await;
            let product = product.or_absent()?;
            product.map(|product| product.name)
        }
    };
    Ok(MailData {
        amount: Some(Money {
            amount: subscription.amount,
            currency: subscription.currency.clone(),
        }),
        ends_at: occasion.ends_at,
        has_ended: subscription.ended_at.is_some(),
        ..MailData::of_customer(subscription.customer.as_ref(), plan.as_deref())
    })
}
