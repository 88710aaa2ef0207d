//! Whether each occasion gave exactly one mail to each of its recipients.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::Value;

use super::World;
use super::agreement::was_replaced;

/// Template, order or subscription, occasion: the key of a mail without its recipient.
type Occasion = String;

/// What deliveries told.
#[derive(Default)]
struct Told {
    /// Occasions that hold to the end, whose delivery came: there must be a mail about each.
    certain: BTreeSet<Occasion>,
    /// Occasions that there were at some time: there may be one.
    possible: BTreeSet<Occasion>,
}

/// Returns what was found, in words.
pub(super) async fn check(world: &World) -> String {
    let told = told(world);
    let mails: Vec<(String, String)> =
        sqlx::query_as("SELECT key, state FROM polar_jobs.mails ORDER BY key")
            .fetch_all(&world.app.pool)
            .await
            .unwrap();
    let mut found: BTreeMap<Occasion, usize> = BTreeMap::new();
    for (key, state) in &mails {
        assert_eq!(state, "sent", "seed {}: {key}", world.seed);
        let (occasion, _recipient) = key.rsplit_once('/').unwrap();
        *found.entry(occasion.to_owned()).or_default() += 1;
    }
    let found: BTreeSet<Occasion> = found.into_keys().collect();
    let missing: Vec<_> = told.certain.difference(&found).collect();
    let needless: Vec<_> = found.difference(&told.possible).collect();
    assert!(
        missing.is_empty() && needless.is_empty(),
        "seed {}: no mail about {missing:?}; mails about {needless:?}",
        world.seed
    );
    assert_eq!(world.workers.mails(), mails.len(), "seed {}", world.seed);
    format!(
        "{} mails about {} occasions, of which {} were certain",
        mails.len(),
        found.len(),
        told.certain.len()
    )
}

fn told(world: &World) -> Told {
    let mut told = Told::default();
    for delivery in world.app.simulator.deliveries() {
        let Some(body) = &delivery.body else {
            continue;
        };
        let event: Value = serde_json::from_str(body).unwrap();
        let Some((occasion, holds)) = occasion(world, &delivery.event_type, &event["data"]) else {
            continue;
        };
        if holds && delivery.state == "succeeded" {
            told.certain.insert(occasion.clone());
        }
        told.possible.insert(occasion);
    }
    told
}

/// The occasion that a delivery tells, and whether it holds to the end.
fn occasion(world: &World, event_type: &str, data: &Value) -> Option<(Occasion, bool)> {
    let id = data["id"].as_str()?;
    let organization = data["customer"]["external_id"].as_str()?;
    let wanted = world.organizations.get(organization)?;
    let stays = !wanted.deleted && !was_replaced(world, organization);
    let now = world.app.simulator.subscriptions(organization);
    let now = now.iter().find(|one| one.id.to_string() == id);
    match event_type {
        "order.created" | "order.paid" | "order.updated" => {
            let template = match data["billing_reason"].as_str()? {
                "subscription_cycle" => "polar_self_subscription_cycled",
                _ => "polar_self_subscription_confirmation",
            };
            let orders = world.app.simulator.orders(organization);
            let order = orders.iter().find(|one| one.id.to_string() == id)?;
            // A delivery that only tells another change starts nothing.
            let starts = event_type != "order.updated" && order.status == "paid";
            (order.net_amount > 0).then(|| (format!("{template}/{id}/order"), stays && starts))
        }
        "subscription.canceled" => Some((
            format!(
                "polar_self_subscription_cancellation/{id}/{}",
                at(&data["canceled_at"])?
            ),
            stays,
        )),
        "subscription.revoked" => Some((
            format!(
                "polar_self_subscription_revoked/{id}/{}",
                at(&data["ended_at"])?
            ),
            stays,
        )),
        "subscription.past_due" => Some((
            format!(
                "polar_self_subscription_past_due/{id}/{}",
                at(&data["current_period_start"])?
            ),
            stays && now.is_some_and(|one| one.status == "past_due"),
        )),
        _ => None,
    }
}

/// A moment as keys have it.
fn at(value: &Value) -> Option<String> {
    let at: DateTime<Utc> = value.as_str()?.parse().ok()?;
    Some(at.to_rfc3339_opts(SecondsFormat::Micros, true))
}
