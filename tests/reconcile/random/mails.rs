//! Whether each occasion gave exactly one mail to each of its recipients, and the mail server got these and no others.
//!
//! An occasion is certain where a delivery that starts a look was taken and what it tells holds to the end. Such an
//! occasion has its mails, unless its customer went before anybody looked: nobody is told what was of somebody who is
//! gone. When the look comes is the worker's (a wait for a payment, an outage of Polar), so what counts is when it ended,
//! and the reason that it gave is held against the time when the customer went.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::Value;
use simulator::records::DeliveryRecord;
use uuid::Uuid;

use super::World;
use super::contacts::Look;

/// Template, order or subscription, occasion: the key of a mail without its recipient.
type Occasion = String;

/// What deliveries tell of an occasion.
#[derive(Clone)]
struct Told {
    /// There must be a mail about it, where its customer did not go before.
    is_certain: bool,
    organization: String,
    customer: Uuid,
    /// The unique key of the jobs that look.
    looks: String,
}

#[derive(Debug, sqlx::FromRow)]
struct Mail {
    key: String,
    state: String,
    recipient: String,
    message_id: String,
    attempts: i32,
    created_at: DateTime<Utc>,
}

impl Mail {
    fn occasion(&self) -> &str {
        self.key.rsplit_once('/').unwrap().0
    }
}

/// A job that looked whether there is a mail to be sent.
#[derive(Debug, sqlx::FromRow)]
struct Job {
    key: String,
    state: String,
    note: Option<String>,
    started_at: DateTime<Utc>,
    finished_at: DateTime<Utc>,
}

/// Returns what was found, in words.
pub(super) async fn check(world: &World) -> String {
    let (told, mails, jobs) = (told(world), mails(world).await, jobs(world).await);
    let mut by_occasion: BTreeMap<&str, Vec<&Mail>> = BTreeMap::new();
    for mail in &mails {
        assert_eq!(mail.state, "sent", "seed {}: {mail:?}", world.seed);
        by_occasion.entry(mail.occasion()).or_default().push(mail);
    }
    let mut certain_mails = 0;
    for (occasion, mails) in &by_occasion {
        let about = format!("seed {}: {occasion}: {mails:#?}", world.seed);
        let told = told.get(*occasion);
        let told = told.unwrap_or_else(|| panic!("no such occasion: {about}"));
        certain_mails += recipients(world, told, mails, &jobs, &about);
    }
    let missing = told
        .iter()
        .filter(|(occasion, told)| told.is_certain && !by_occasion.contains_key(occasion.as_str()));
    let mut gone = 0;
    for (occasion, told) in missing {
        gone_before(world, occasion, told, &jobs);
        gone += 1;
    }
    let resent = received(world, &mails);
    let certain = told.values().filter(|told| told.is_certain).count();
    format!(
        "{} mails ({certain_mails} certain, {resent} came twice) about {} occasions; {certain} were certain, {gone} of them without their customer",
        mails.len(),
        by_occasion.len(),
    )
}

async fn mails(world: &World) -> Vec<Mail> {
    let mails = "SELECT key, state, recipient, coalesce(trim(message_id, '<>'), '') AS message_id, attempts, created_at
                   FROM polar_jobs.mails ORDER BY key";
    sqlx::query_as(mails)
        .fetch_all(&world.app.pool)
        .await
        .unwrap()
}

async fn jobs(world: &World) -> BTreeMap<String, Vec<Job>> {
    let jobs: Vec<Job> = sqlx::query_as(
        "SELECT unique_key AS key, state, note, started_at, finished_at FROM polar_jobs.jobs
          WHERE kind IN ('send_order_email', 'send_subscription_email') AND finished_at IS NOT NULL
            AND NOT (state = 'cancelled' AND note LIKE 'merged into job %') ORDER BY id",
    )
    .fetch_all(&world.app.pool)
    .await
    .unwrap();
    let mut by_key: BTreeMap<String, Vec<Job>> = BTreeMap::new();
    for job in jobs {
        by_key.entry(job.key.clone()).or_default().push(job);
    }
    by_key
}

/// All were asked for at once, by one look, and went to whom that look could find. Returns how many had to be.
fn recipients(
    world: &World,
    told: &Told,
    mails: &[&Mail],
    jobs: &BTreeMap<String, Vec<Job>>,
    about: &str,
) -> usize {
    let asked_at = mails[0].created_at;
    assert!(
        mails.iter().all(|mail| mail.created_at == asked_at),
        "{about}"
    );
    let looks = jobs.get(&told.looks).into_iter().flatten();
    let began = looks
        .map(|job| job.started_at)
        .filter(|at| *at <= asked_at)
        .max();
    let from = began.unwrap_or_else(|| panic!("nobody looked: {about}"));
    let deleted_at = deleted_at(world, told.customer);
    let look = Look {
        organization: &told.organization,
        customer: told.customer,
        interrupted: deleted_at.is_some_and(|at| (from..=asked_at).contains(&at)),
        from,
        until: asked_at,
    };
    let recipients: Vec<String> = mails.iter().map(|mail| mail.recipient.clone()).collect();
    let checked = world.contacts.check(&look, &recipients);
    checked.unwrap_or_else(|found| panic!("{found}: {about}: {look:?}"))
}

/// Nobody was told. Then every look says that the customer was gone, and it was.
fn gone_before(world: &World, occasion: &str, told: &Told, jobs: &BTreeMap<String, Vec<Job>>) {
    let looks = jobs.get(&told.looks).map(Vec::as_slice).unwrap_or_default();
    let is_right = |look: &Job| {
        let gone_at = match look.note.as_deref() {
            Some("the customer has no billing contacts") => deleted_at(world, told.customer),
            Some(
                "the organization was deleted"
                | "the customer of the organization's earlier life is still to be deleted",
            ) => world.deletions.get(&told.organization).copied(),
            _ => None,
        };
        look.state == "completed" && gone_at.is_some_and(|at| at <= look.finished_at)
    };
    assert!(
        !looks.is_empty() && looks.iter().all(is_right),
        "seed {}: no mail about {occasion}, organization {}: {looks:#?}",
        world.seed,
        told.organization
    );
}

fn deleted_at(world: &World, customer: Uuid) -> Option<DateTime<Utc>> {
    let mut customers = world.app.simulator.customers().into_iter();
    let customer = customers.find(|one| one.id == customer);
    customer.and_then(|customer| customer.deleted_at)
}

/// One message for each mail, to its recipient; again only where a worker that was killed could not write it down.
/// Returns how many came again.
fn received(world: &World, mails: &[Mail]) -> usize {
    let mut received: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for message in world.workers.received() {
        let id = message.message_id();
        received.entry(id).or_default().push(message.to);
    }
    for mail in mails {
        let about = format!("seed {}: {mail:?}", world.seed);
        let to = received.get(&mail.message_id);
        let to = to.unwrap_or_else(|| panic!("not received: {about}"));
        assert!(to.iter().all(|to| *to == mail.recipient), "{to:?}: {about}");
        assert!(
            to.len() <= usize::try_from(mail.attempts).unwrap(),
            "{to:?}: {about}"
        );
    }
    let ids: BTreeSet<&str> = mails.iter().map(|mail| mail.message_id.as_str()).collect();
    assert_eq!(ids.len(), mails.len(), "seed {}", world.seed);
    assert_eq!(received.len(), mails.len(), "seed {}", world.seed);
    received.values().map(|to| to.len() - 1).sum()
}

fn told(world: &World) -> BTreeMap<Occasion, Told> {
    let mut all: BTreeMap<Occasion, Told> = BTreeMap::new();
    for delivery in world.app.simulator.deliveries() {
        let Some(body) = &delivery.body else {
            continue;
        };
        let event: Value = serde_json::from_str(body).unwrap();
        for (occasion, told) in occasions(world, &delivery, &event["data"]).unwrap_or_default() {
            let known = all.entry(occasion).or_insert_with(|| Told {
                is_certain: false,
                ..told.clone()
            });
            known.is_certain |= told.is_certain && was_taken(&delivery);
        }
    }
    all
}

/// Polar heard that we have it.
fn was_taken(delivery: &DeliveryRecord) -> bool {
    let mut statuses = delivery
        .attempts
        .iter()
        .filter_map(|attempt| attempt.status);
    statuses.any(|status| (200..300).contains(&status))
}

/// The occasions about which this delivery may lead to mails.
fn occasions(
    world: &World,
    delivery: &DeliveryRecord,
    data: &Value,
) -> Option<Vec<(Occasion, Told)>> {
    let id = data["id"].as_str()?;
    let organization = data["customer"]["external_id"].as_str()?;
    let customer = data["customer_id"].as_str()?.parse().ok()?;
    let told = |is_certain, looks: &str| Told {
        is_certain,
        organization: organization.to_owned(),
        customer,
        looks: format!("{looks}/{id}"),
    };
    let subscriptions = world.app.simulator.subscriptions(organization);
    let subscription = subscriptions.iter().find(|one| one.id.to_string() == id);
    let key =
        |template, occasion: &str| format!("polar_self_subscription_{template}/{id}/{occasion}");
    let one = |key, told| Some(vec![(key, told)]);
    match delivery.event_type.as_str() {
        kind @ ("order.created" | "order.paid" | "order.updated") => {
            let orders = world.app.simulator.orders(organization);
            let order = orders.iter().find(|one| one.id.to_string() == id)?;
            if order.net_amount <= 0 || order.status != "paid" {
                return None;
            }
            let template = match order.billing_reason.as_str() {
                "subscription_cycle" => "cycled",
                _ => "confirmation",
            };
            // The first two start a look whatever they say; it waits for the payment. An update does where it says
            // that the invoice is ready.
            let starts = kind != "order.updated" || data["is_invoice_generated"] == true;
            one(key(template, "order"), told(starts, "send_order_email"))
        }
        "subscription.canceled" => {
            let key = key("cancellation", &at(&data["canceled_at"])?);
            one(key, told(true, "send_subscription_email/canceled"))
        }
        "subscription.revoked" => {
            let key = key("revoked", &at(&data["ended_at"])?);
            one(key, told(true, "send_subscription_email/revoked"))
        }
        // The look finds the period that is past due by then, if one is.
        "subscription.past_due" => {
            let this = at(&data["current_period_start"])?;
            let owed = subscription.filter(|one| one.status == "past_due");
            let owed = owed.map(|one| text(one.current_period_start));
            let periods = world.failed_payments.get(id).into_iter().flatten().copied();
            let periods = periods.map(text).chain([this.clone()]);
            let told = |period: String| {
                let is_certain = period == this && owed.as_ref() == Some(&period);
                let told = told(is_certain, "send_subscription_email/past_due");
                (key("past_due", &period), told)
            };
            Some(periods.map(told).collect())
        }
        _ => None,
    }
}

/// A moment as keys have it.
fn at(value: &Value) -> Option<String> {
    value.as_str()?.parse().ok().map(text)
}

fn text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}
