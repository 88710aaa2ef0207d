//! A customer has a life: it is made, it ends in steps, and another one may begin under the same external id.

use std::time::Duration;

use crate::common::{Api, Receiver, TIMEOUT, start_with_acme};
use chrono::TimeDelta;
use serde_json::{Value, json};
use simulator::{Options, Product, Simulator, Start, SubscriptionStep};

/// No step of a deletion follows unless the clock is moved.
const STEP: Duration = Duration::from_secs(3600);

async fn begin() -> (Simulator, Api, Receiver) {
    let options = Options {
        deletion_delay: STEP,
        ..Options::default()
    };
    start_with_acme(options).await
}

fn reading(id: &str, count: u64) -> Value {
    json!({"name": "u", "external_customer_id": "acme", "external_id": id, "metadata": {"count": count}})
}

async fn ingest(api: &Api, id: &str, count: u64) -> Value {
    api.ingest(json!([reading(id, count)])).await.body
}

#[tokio::test]
async fn events_stay_with_the_customer_they_were_sent_for_and_its_successor_starts_at_zero() {
    let (simulator, api, _receiver) = begin().await;
    ingest(&api, "1", 5).await;
    let first = simulator.customer("acme").unwrap().id;
    api.delete("/v1/customers/external/acme?anonymize=true")
        .await;
    api.create_customer("acme").await;
    let second = simulator.customer("acme").unwrap().id;
    assert_eq!(simulator.event_sum_of("u", first), 5);
    assert_eq!(simulator.event_sum_of("u", second), 0);
    ingest(&api, "2", 7).await;
    assert_eq!(simulator.event_sum_of("u", second), 7);
    let listed = api.get("/v1/events/?external_customer_id=acme").await.body;
    assert_eq!(listed["pagination"]["total_count"], 1);
    assert_eq!(listed["items"][0]["customer_id"], json!(second));
}

#[tokio::test]
async fn an_event_id_is_used_up_for_ever_also_by_an_earlier_customer() {
    let (simulator, api, _receiver) = begin().await;
    ingest(&api, "1", 5).await;
    api.delete("/v1/customers/external/acme").await;
    api.create_customer("acme").await;
    let again = ingest(&api, "1", 5).await;
    assert_eq!(again, json!({"inserted": 0, "duplicates": 1}));
    let second = simulator.customer("acme").unwrap().id;
    assert_eq!(simulator.event_sum_of("u", second), 0);
}

#[tokio::test]
async fn events_sent_between_two_lives_belong_to_the_second() {
    let (simulator, api, _receiver) = begin().await;
    api.delete("/v1/customers/external/acme").await;
    ingest(&api, "1", 3).await;
    assert_eq!(simulator.events()[0].customer_id, None);
    api.create_customer("acme").await;
    let second = simulator.customer("acme").unwrap().id;
    assert_eq!(simulator.event_sum_of("u", second), 3);
}

#[tokio::test]
async fn a_deletion_ends_grants_and_then_subscriptions_by_later_jobs() {
    let (simulator, api, receiver) = begin().await;
    simulator.purchase("acme", Product::Pro).await.unwrap();
    simulator.advance(TimeDelta::zero()).await;
    receiver.clear();
    assert_eq!(api.delete("/v1/customers/external/acme").await.status, 204);
    simulator.advance(TimeDelta::zero()).await;
    let first = [
        "member.deleted",
        "customer.deleted",
        "customer.state_changed",
    ];
    assert_eq!(receiver.types(), first);
    let state = &receiver.of_type("customer.state_changed")[0].body["data"];
    assert!(state["deleted_at"].is_string());
    assert_eq!(state["active_subscriptions"][0]["status"], "active");
    assert_eq!(state["granted_benefits"].as_array().unwrap().len(), 2);

    receiver.clear();
    simulator.advance(TimeDelta::hours(1)).await;
    assert_eq!(receiver.of_type("benefit_grant.revoked").len(), 2);
    assert_eq!(simulator.subscriptions("acme")[0].status, "active");

    receiver.clear();
    simulator.advance(TimeDelta::hours(1)).await;
    let kinds: Vec<String> = receiver.types();
    let last = [
        "subscription.updated",
        "subscription.canceled",
        "subscription.revoked",
    ];
    assert_eq!(kinds[..3], last);
    assert_eq!(simulator.subscriptions("acme")[0].status, "canceled");
    assert!(simulator.deliveries_finished(TIMEOUT).await);
}

#[tokio::test]
async fn the_end_of_a_first_life_leaves_a_second_that_began_meanwhile_alone() {
    let (simulator, api, _receiver) = begin().await;
    simulator.purchase("acme", Product::Pro).await.unwrap();
    api.delete("/v1/customers/external/acme?anonymize=true")
        .await;
    api.create_customer("acme").await;
    let second = simulator.purchase("acme", Product::Scale).await.unwrap();
    simulator.advance(TimeDelta::hours(3)).await;
    let record = |id| {
        let all = simulator.subscriptions("acme");
        all.into_iter().find(|row| row.id == id).unwrap()
    };
    assert_eq!(record(second).status, "active");
    let held = simulator.grants("acme");
    let held = held.iter().filter(|grant| grant.is_granted);
    assert!(held.clone().count() == 4 && held.clone().all(|grant| grant.subscription_id == second));
}

#[tokio::test]
async fn every_parallel_deletion_announces_itself_and_the_state() {
    let (simulator, api, _receiver) = begin().await;
    let held = simulator.hold(simulator::RequestMatch::path("/v1/customers").method("DELETE"));
    let (left, right, ()) = tokio::join!(
        api.delete("/v1/customers/external/acme"),
        api.delete("/v1/customers/external/acme"),
        async {
            assert!(held.wait_for(2, TIMEOUT).await);
            held.release_all();
        }
    );
    assert_eq!((left.status, right.status), (204, 204));
    let deliveries = simulator.deliveries();
    let count = |kind: &str| {
        deliveries
            .iter()
            .filter(|one| one.event_type == kind)
            .count()
    };
    assert_eq!(count("customer.deleted"), 2);
    assert_eq!(count("customer.state_changed"), 3, "one is the creation's");
}

#[tokio::test]
async fn a_trial_grants_and_is_charged_when_it_is_over() {
    let (simulator, api, receiver) = begin().await;
    let trial = Start::Trial(14);
    let id = simulator.purchase_as("acme", Product::Pro, trial).await;
    let id = id.unwrap();
    let shown = api.get(&format!("/v1/subscriptions/{id}")).await.body;
    assert_eq!(shown["status"], "trialing");
    assert_eq!(shown["trial_end"], shown["current_period_end"]);
    let state = api.get("/v1/customers/external/acme/state").await.body;
    assert_eq!(state["active_subscriptions"][0]["status"], "trialing");
    assert_eq!(simulator.orders("acme").len(), 0);
    assert!(
        simulator
            .grants("acme")
            .iter()
            .all(|grant| grant.is_granted)
    );
    simulator.advance(TimeDelta::days(15)).await;
    assert_eq!(simulator.subscriptions("acme")[0].status, "active");
    assert_eq!(simulator.orders("acme").len(), 1);
    assert_eq!(receiver.of_type("subscription.cycled").len(), 1);
}

#[tokio::test]
async fn an_incomplete_subscription_grants_nothing_until_it_is_completed() {
    for (step, status, granted) in [
        (SubscriptionStep::Complete, "active", 2),
        (SubscriptionStep::Expire, "incomplete_expired", 0),
    ] {
        let (simulator, api, receiver) = begin().await;
        let bought = simulator.purchase_as("acme", Product::Pro, Start::Incomplete);
        let id = bought.await.unwrap();
        let state = api.get("/v1/customers/external/acme/state").await.body;
        assert_eq!(state["active_subscriptions"], json!([]));
        assert!(simulator.grants("acme").is_empty());
        simulator.step_on(id, step).await.unwrap();
        assert_eq!(simulator.subscriptions("acme")[0].status, status);
        assert_eq!(simulator.grants("acme").len(), granted);
        simulator.advance(TimeDelta::zero()).await;
        let created = &receiver.of_type("subscription.created")[0].body["data"];
        assert_eq!(created["status"], "incomplete");
    }
}

#[tokio::test]
async fn of_several_subscriptions_a_later_cancelled_one_leaves_the_living_one() {
    let (simulator, api, _receiver) = begin().await;
    let living = simulator.purchase("acme", Product::Pro).await.unwrap();
    let later = simulator.purchase("acme", Product::Scale).await.unwrap();
    simulator
        .step_on(later, SubscriptionStep::Revoke)
        .await
        .unwrap();
    let query = "/v1/subscriptions/?external_customer_id=acme";
    let all = api.get(query).await.body;
    assert_eq!(
        all["items"][0]["id"],
        json!(later),
        "the newest comes first"
    );
    assert_eq!(all["items"][0]["status"], "canceled");
    let active = api.get(&format!("{query}&active=true")).await.body;
    assert_eq!(active["items"][0]["id"], json!(living));
    assert_eq!(active["pagination"]["total_count"], 1);
    let state = api.get("/v1/customers/external/acme/state").await.body;
    assert_eq!(state["active_subscriptions"][0]["id"], json!(living));
    let held = simulator.grants("acme").into_iter();
    let held = held.filter(|grant| grant.is_granted);
    assert_eq!(
        held.filter(|grant| grant.subscription_id == living).count(),
        2
    );
}
