//! Tells an organization's billing contacts that a plan was bought or renewed, with the invoice.
//!
//! Decided on the order as it is when the job runs: the delivery that started it is a minute old, or days.
//! While the order is unpaid or its invoice not ready the job waits; deliveries about either merge into it and
//! wake it. The waits count from the order, so they do not begin anew with every delivery.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use polar::{BillingReason, EventType, OrAbsent, Order, OrderId, OrderStatus, Peek, Subscription};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::SendEmail;
use crate::contract::{Context, Done, Error, Job, NewJob, Queue, priority};
use crate::customer::{CustomerIds, Readiness};
use crate::mail::{
    INVOICE_DEADLINE, Invoicing, MailData, Money, NewMail, Template, billing_contacts,
    prepare_invoice,
};
use crate::mirror::{clock, mails};
use crate::types::OrganizationId;

/// How long an order may stay unpaid until nobody expects a mail about it.
const PAYMENT_DEADLINE: TimeDelta = TimeDelta::hours(72);
/// The wait between two looks is as long as the order is old, within these bounds. Deliveries tell what happens; a
/// look of our own only replaces one that was lost.
const SHORTEST_WAIT: TimeDelta = TimeDelta::seconds(15);
const LONGEST_WAIT: TimeDelta = TimeDelta::hours(6);
/// How long after `order.created` the first look comes: most orders are paid and numbered by then, and one
/// that is says so earlier.
const FIRST_LOOK: TimeDelta = TimeDelta::seconds(60);

/// The mails of one order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendOrderEmail {
    /// Whose order.
    #[serde(flatten)]
    pub customer: CustomerIds,
    /// Polar's id of it.
    pub order_id: Uuid,
}

impl SendOrderEmail {
    /// The job that a delivery about an order starts; `None` where it gives no reason to look.
    #[must_use]
    pub fn for_delivery(peek: &Peek) -> Option<NewJob> {
        let job = NewJob::of(&Self {
            customer: CustomerIds::of_delivery(peek),
            order_id: peek.order_id?.0,
        });
        match peek.event_type.as_ref()? {
            EventType::OrderCreated => Some(job.at(Utc::now() + FIRST_LOOK)),
            EventType::OrderPaid => Some(job),
            EventType::OrderUpdated if peek.invoice_ready => Some(job),
            _ => None,
        }
    }
}

impl Job for SendOrderEmail {
    const KIND: &'static str = "send_order_email";
    const QUEUE: Queue = Queue::Mail;
    const PRIORITY: i16 = priority::MAIL;

    /// All deliveries about one order collapse into one look.
    fn unique_key(&self) -> Option<String> {
        Some(format!("{}/{}", Self::KIND, self.order_id))
    }

    fn ordering_key(&self) -> Option<String> {
        self.unique_key()
    }

    async fn run(self, context: &Context) -> Result<Done, Error> {
        if mails::are_requested(&context.pool, self.order_id).await? {
            return Ok(Done::ignored(
                "the mails of this order were asked for before",
            ));
        }
        let (polar, organization) = match self.customer.readiness(context).await? {
            Readiness::Done(done) => return Ok(done),
            Readiness::Ready(polar, organization) => (polar, organization),
        };
        let order = polar
            .orders()
            .get(OrderId(self.order_id))
            .await
            .or_absent()?;
        let Some(order) = order else {
            return Ok(Done::ignored("Polar has no such order"));
        };
        let now = clock::now(&context.pool).await?;
        match decide(&order, now) {
            Decision::Mail(template) => {
                mail(context, polar, organization, order, template, now).await
            }
            Decision::Wait(reason) => Err(wait(reason, &order, now, PAYMENT_DEADLINE)),
            Decision::Nothing(reason) => Ok(Done::ignored(reason)),
        }
    }
}

/// What an order asks for.
#[derive(Debug, PartialEq)]
enum Decision {
    Mail(Template),
    Wait(&'static str),
    Nothing(&'static str),
}

fn decide(order: &Order, now: DateTime<Utc>) -> Decision {
    let template = match order.billing_reason {
        BillingReason::SubscriptionCreate | BillingReason::SubscriptionUpdate => {
            Template::SubscriptionConfirmation
        }
        BillingReason::SubscriptionCycle => Template::SubscriptionCycled,
        BillingReason::Purchase
        | BillingReason::SubscriptionMeterCycle
        | BillingReason::Other(_) => {
            return Decision::Nothing("the order is about no plan");
        }
    };
    if order.net_amount == 0 {
        return Decision::Nothing("the order is free");
    }
    match order.status {
        OrderStatus::Paid | OrderStatus::PartiallyRefunded => Decision::Mail(template),
        OrderStatus::Void => Decision::Nothing("the order is void"),
        OrderStatus::Refunded => Decision::Nothing("the order was refunded"),
        OrderStatus::Draft | OrderStatus::Pending | OrderStatus::Other(_) => {
            if now - order.created_at < PAYMENT_DEADLINE {
                Decision::Wait("the order is not paid")
            } else {
                Decision::Nothing("the order was not paid within 72 hours")
            }
        }
    }
}

async fn mail(
    context: &Context,
    polar: &polar::Client,
    organization: OrganizationId,
    order: Order,
    template: Template,
    now: DateTime<Utc>,
) -> Result<Done, Error> {
    let recipients =
        billing_contacts(&context.pool, polar, organization, order.customer_id).await?;
    if recipients.is_empty() {
        return Ok(Done::ignored("the customer has no billing contacts"));
    }
    // Without a mail server the mail is skipped, and nobody reads the invoice.
    let invoice = match context.mail {
        Some(_) => {
            let age = now - order.created_at;
            prepare_invoice(polar, &order, age, context.job.failures).await?
        }
        None => Invoicing::Without,
    };
    let invoice = match invoice {
        Invoicing::NotYet(reason) => return Err(wait(reason, &order, now, INVOICE_DEADLINE)),
        Invoicing::Attached(invoice) => Some(invoice),
        Invoicing::Without => None,
    };
    let mail = NewMail {
        template,
        recipients,
        organization: Some(organization),
        order: Some(order.id.0),
        subscription: order.subscription_id.map(|id| id.0),
        occasion: "order".to_owned(),
        data: data(&order),
    };
    let mut transaction = context.begin().await?;
    if let Some(invoice) = invoice {
        mails::keep_invoice(&mut transaction, order.id.0, &invoice).await?;
    }
    let jobs = SendEmail::request(&mut transaction, &mail).await?;
    Ok(Done::applied().then(jobs).within(transaction))
}

fn data(order: &Order) -> MailData {
    let plan = order.product.as_ref().map(|product| product.name.as_str());
    let subscription = order.subscription.as_ref();
    let renews = |s: &&Subscription| !s.cancel_at_period_end && s.ended_at.is_none();
    MailData {
        amount: Some(Money {
            amount: order.charged_amount(),
            currency: order.currency.clone(),
        }),
        period_start: subscription.and_then(|subscription| subscription.current_period_start),
        period_end: subscription
            .filter(renews)
            .and_then(|subscription| subscription.current_period_end),
        has_ended: subscription.is_some_and(|subscription| subscription.ended_at.is_some()),
        ..MailData::of_customer(order.customer.as_ref(), plan)
    }
}

/// Looks again later, and at the deadline at the latest.
fn wait(reason: &'static str, order: &Order, now: DateTime<Utc>, deadline: TimeDelta) -> Error {
    let age = now - order.created_at;
    let after = age.clamp(SHORTEST_WAIT, LONGEST_WAIT).min(deadline - age);
    let after = after
        .to_std()
        .unwrap_or_default()
        .max(Duration::from_secs(1));
    Error::not_yet(reason, after)
}
