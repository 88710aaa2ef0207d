//! Whatever happens in whatever order, however often it is told, and whatever the mail server does meanwhile: one mail
//! per contact and occasion.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;
use simulator::Product;

use crate::mail_server::Behaviour;
use crate::test_app::{CONTACTS, TestApp, polar};

const STEPS: usize = 25;

#[tokio::test]
async fn there_are_as_many_mails_as_occasions_in_any_order_of_events() {
    for seed in [1, 2] {
        play(seed).await;
    }
}

async fn play(seed: u64) {
    let app = TestApp::open(polar()).await;
    let organizations: [String; 3] = app.organizations().await;
    let mut dice = StdRng::seed_from_u64(seed);
    for _step in 0..STEPS {
        app.mail_server.behave(behaviour(&mut dice));
        let organization = organizations.choose(&mut dice).unwrap();
        match dice.random_range(0..3) {
            0 => tell_again(&app, &mut dice).await,
            _ => act(&app, &mut dice, organization).await,
        }
        app.work_until_idle().await;
    }
    app.mail_server.behave(Behaviour::Accept);
    for organization in &organizations {
        // Nothing is told of an order that nobody pays, but it is waited for.
        let subscription = app.simulator.subscriptions(organization).pop();
        if subscription.is_some_and(|found| found.status == "past_due") {
            let recovered = app.simulator.recover_payment(organization);
            recovered.await.unwrap();
        }
    }
    app.finish().await;
    let mails = app.mails().await;
    let mut by_template: BTreeMap<String, usize> = BTreeMap::new();
    for mail in &mails {
        assert_eq!(mail.state, "sent", "seed {seed}: {mail:?}");
        *by_template.entry(mail.template.clone()).or_default() += 1;
    }
    let expected = occasions(&app, &organizations);
    assert!(
        expected.len() > 3,
        "seed {seed} does too little: {expected:?}"
    );
    let expected = expected.into_iter();
    let expected: BTreeMap<String, usize> = expected
        .map(|(template, count)| (template.to_owned(), count * CONTACTS.len()))
        .collect();
    assert_eq!(by_template, expected, "seed {seed}");
    let received = app.mail_server.received().into_iter();
    let messages: BTreeSet<String> = received.map(|mail| mail.message_id()).collect();
    assert_eq!(messages.len(), mails.len(), "seed {seed}");
}

/// Mostly well.
fn behaviour(dice: &mut StdRng) -> Behaviour {
    match dice.random_range(0..5) {
        0 => Behaviour::LoseAnswer,
        1 => Behaviour::Answer("RCPT", "admin@", "451 4.7.1 later"),
        _ => Behaviour::Accept,
    }
}

/// Something that people or their bank may do now.
async fn act(app: &TestApp, dice: &mut StdRng, organization: &str) {
    let polar = &app.simulator;
    let subscription = polar.subscriptions(organization).pop();
    let status = subscription.as_ref().map(|found| found.status.as_str());
    let is_canceled = subscription
        .as_ref()
        .is_some_and(|found| found.cancel_at_period_end);
    let done = match (status, is_canceled, dice.random_range(0..4)) {
        (Some("active"), false, 0) => polar.fail_payment(organization).await,
        (Some("active"), false, 1) => polar.cancel_at_period_end(organization).await,
        (Some("active"), false, 2) => polar.change_plan(organization, Product::Scale, true).await,
        (Some("active"), false, _) => polar.renew(organization).await,
        (Some("active"), true, 0) | (Some("past_due"), _, 0) => polar.revoke(organization).await,
        (Some("active"), true, _) => polar.uncancel(organization).await,
        (Some("past_due"), ..) => polar.recover_payment(organization).await,
        _ => polar.purchase(organization, Product::Pro).await.map(|_| ()),
    };
    done.unwrap();
}

/// An old delivery once more, with its own id or another one.
async fn tell_again(app: &TestApp, dice: &mut StdRng) {
    let deliveries = app.simulator.deliveries();
    let Some(delivery) = deliveries.choose(dice) else {
        return;
    };
    if dice.random_bool(0.5) {
        app.simulator.redeliver(delivery.id);
    } else if let Some(body) = &delivery.body {
        let envelope: Value = serde_json::from_str(body).unwrap();
        app.deliver(&delivery.event_type, &envelope["data"]).await;
    }
}

/// By template, how much there was to tell: paid orders, and what Polar announced of subscriptions.
fn occasions(app: &TestApp, organizations: &[String]) -> BTreeMap<&'static str, usize> {
    let mut found: BTreeSet<(&'static str, String)> = BTreeSet::new();
    let orders = organizations.iter().flat_map(|id| app.simulator.orders(id));
    for order in orders.filter(|order| order.status == "paid" && order.net_amount != 0) {
        let template = match order.billing_reason.as_str() {
            "subscription_cycle" => "polar_self_subscription_cycled",
            _ => "polar_self_subscription_confirmation",
        };
        found.insert((template, order.id.to_string()));
    }
    for delivery in app.simulator.deliveries() {
        let (template, moment) = match delivery.event_type.as_str() {
            "subscription.canceled" => ("polar_self_subscription_cancellation", "canceled_at"),
            "subscription.past_due" => ("polar_self_subscription_past_due", "current_period_start"),
            "subscription.revoked" => ("polar_self_subscription_revoked", "ended_at"),
            _ => continue,
        };
        let envelope: Value = serde_json::from_str(&delivery.body.unwrap()).unwrap();
        let data = &envelope["data"];
        found.insert((template, format!("{} {}", data["id"], data[moment])));
    }
    let mut counts = BTreeMap::new();
    for (template, _) in found {
        *counts.entry(template).or_default() += 1;
    }
    counts
}
