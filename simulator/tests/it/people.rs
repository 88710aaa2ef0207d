//! What people do must leave the rows and deliveries that Polar leaves.

use crate::common::{Api, Receiver, TIMEOUT, start_with_acme};
use chrono::TimeDelta;
use serde_json::json;
use simulator::{Options, Product};

async fn shop() -> (simulator::Simulator, Api, Receiver) {
    let (simulator, api, receiver) = start_with_acme(Options::default()).await;
    assert!(simulator.deliveries_finished(TIMEOUT).await);
    (simulator, api, receiver)
}

#[tokio::test]
async fn a_purchase_is_announced_in_polars_order() {
    let (simulator, _api, receiver) = shop().await;
    // The member is announced before the customer.
    assert_eq!(
        receiver.types(),
        [
            "member.created",
            "customer.created",
            "customer.state_changed"
        ]
    );
    receiver.clear();
    simulator.purchase("acme", Product::Pro).await.unwrap();
    assert!(simulator.deliveries_finished(TIMEOUT).await);
    let types: Vec<String> = receiver
        .types()
        .into_iter()
        .filter(|kind| kind != "customer.state_changed")
        .collect();
    let expected = [
        "checkout.created",
        "checkout.updated",
        "customer.updated",
        "subscription.created",
        "subscription.active",
        "subscription.updated",
        "order.created",
        "order.updated",
        "order.paid",
        "checkout.updated",
        "benefit_grant.created",
        "benefit_grant.created",
    ];
    assert_eq!(types, expected);
    assert!(
        receiver
            .received()
            .iter()
            .all(|one| one.user_agent == "polar.sh webhooks")
    );
}

#[tokio::test]
async fn the_clock_renews_what_runs_and_ends_what_was_cancelled() {
    let (simulator, _api, receiver) = shop().await;
    simulator.purchase("acme", Product::Pro).await.unwrap();
    assert!(simulator.deliveries_finished(TIMEOUT).await);
    receiver.clear();
    simulator.advance(TimeDelta::days(32)).await;
    assert!(simulator.deliveries_finished(TIMEOUT).await);
    let kinds = receiver.types();
    assert!(
        kinds.contains(&"subscription.cycled".to_owned())
            && kinds.contains(&"benefit_grant.cycled".to_owned())
    );
    assert_eq!(simulator.orders("acme").len(), 2);

    simulator.cancel_at_period_end("acme").await.unwrap();
    assert!(
        simulator
            .grants("acme")
            .iter()
            .all(|grant| grant.is_granted)
    );
    receiver.clear();
    simulator.advance(TimeDelta::days(32)).await;
    assert!(simulator.deliveries_finished(TIMEOUT).await);
    assert_eq!(simulator.subscriptions("acme")[0].status, "canceled");
    assert!(
        simulator
            .grants("acme")
            .iter()
            .all(|grant| !grant.is_granted)
    );
    assert_eq!(receiver.of_type("subscription.revoked").len(), 1);
    assert_eq!(receiver.of_type("benefit_grant.revoked").len(), 2);
}

#[tokio::test]
async fn a_failed_charge_can_be_made_good() {
    let (simulator, api, receiver) = shop().await;
    simulator.purchase("acme", Product::Growth).await.unwrap();
    simulator.fail_payment("acme").await.unwrap();
    assert_eq!(simulator.subscriptions("acme")[0].status, "past_due");
    assert_eq!(simulator.orders("acme")[1].status, "pending");
    let state = api.get("/v1/customers/external/acme/state").await;
    assert_eq!(state.body["active_subscriptions"], json!([]));
    simulator.recover_payment("acme").await.unwrap();
    assert_eq!(simulator.subscriptions("acme")[0].status, "active");
    assert_eq!(simulator.orders("acme")[1].status, "paid");
    assert!(simulator.deliveries_finished(TIMEOUT).await);
    assert_eq!(receiver.of_type("subscription.past_due").len(), 1);
    assert_eq!(receiver.of_type("subscription.active").len(), 2);
}

#[tokio::test]
async fn a_pause_withdraws_and_a_resume_returns() {
    let (simulator, _api, _receiver) = shop().await;
    simulator.purchase("acme", Product::Scale).await.unwrap();
    simulator.pause("acme").await.unwrap();
    assert!(
        simulator
            .grants("acme")
            .iter()
            .all(|grant| !grant.is_granted)
    );
    simulator.resume("acme").await.unwrap();
    let held = simulator
        .grants("acme")
        .iter()
        .filter(|grant| grant.is_granted)
        .count();
    assert_eq!(held, 4);
    assert!(simulator.resume("acme").await.is_err(), "nothing to resume");
}

#[tokio::test]
async fn an_upgrade_holds_both_sets_for_a_moment_or_neither() {
    for new_first in [true, false] {
        let (simulator, _api, receiver) = shop().await;
        simulator.purchase("acme", Product::Pro).await.unwrap();
        assert!(simulator.deliveries_finished(TIMEOUT).await);
        receiver.clear();
        simulator
            .change_plan("acme", Product::Scale, new_first)
            .await
            .unwrap();
        assert!(simulator.deliveries_finished(TIMEOUT).await);
        let grants: Vec<String> = receiver
            .types()
            .into_iter()
            .filter(|kind| kind.starts_with("benefit_grant."))
            .collect();
        let first = if new_first {
            "benefit_grant.created"
        } else {
            "benefit_grant.revoked"
        };
        assert_eq!((grants.len(), grants[0].as_str()), (6, first));
    }
}

#[tokio::test]
async fn an_edited_benefit_is_announced_by_itself_only() {
    let (simulator, _api, receiver) = shop().await;
    simulator.purchase("acme", Product::Pro).await.unwrap();
    assert!(simulator.deliveries_finished(TIMEOUT).await);
    receiver.clear();
    let metadata = json!({"type": "transaction_fee", "fee_percent": 300, "fee_fixed": 30, "subscription_fee_percent": 0});
    simulator
        .edit_benefit_metadata(
            Product::Pro,
            "transaction_fee",
            metadata.as_object().unwrap().clone(),
        )
        .await
        .unwrap();
    assert!(simulator.deliveries_finished(TIMEOUT).await);
    assert_eq!(receiver.types(), ["benefit.updated"]);
    let grants = simulator.grants("acme");
    assert!(
        grants
            .iter()
            .any(|grant| grant.metadata.get("fee_percent") == Some(&json!(300)))
    );
}
