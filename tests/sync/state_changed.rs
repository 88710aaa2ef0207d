//! `customer.state_changed`: read for what it says, a reason to ask only where that is news.

use serde_json::{Value, json};
use simulator::Product;

use crate::house::{House, PATIENCE, Tenant};

/// What was asked about grants and subscriptions.
fn askings(house: &House) -> usize {
    let about = ["/v1/benefit-grants/", "/v1/subscriptions/"];
    let requests = house.simulator.requests();
    requests
        .iter()
        .filter(|request| about.contains(&request.path.as_str()))
        .count()
}

async fn open() -> (House, Tenant) {
    let (house, tenant) = (House::open().await, Tenant::new());
    house.tell(&[tenant.created()]).await;
    house.settle().await;
    (house, tenant)
}

async fn plan(house: &House) -> (String, Option<String>) {
    sqlx::query_as("SELECT plan, support_tier FROM polar_jobs.entitlements")
        .fetch_one(&house.pool)
        .await
        .unwrap()
}

fn growth() -> (String, Option<String>) {
    ("Growth".to_owned(), Some("growth".to_owned()))
}

/// The state of the customer as Polar tells it now.
async fn state(house: &House, tenant: &Tenant) -> Value {
    let path = format!("/v1/customers/external/{}/state", tenant.id);
    house.at_polar("GET", &path, None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_up_costs_two_calls() {
    let (house, _) = open().await;
    let told = "SELECT count(*) FROM polar_jobs.external_events WHERE type = 'customer.state_changed' AND outcome = 'ignored'";
    assert!(house.count(told).await > 0);
    let calls: Vec<String> = house
        .simulator
        .requests()
        .into_iter()
        .map(|request| format!("{} {}", request.method, request.path))
        .collect();
    assert!(calls.len() <= 2, "{calls:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_of_a_paying_organization_asks_for_nothing_that_is_held_already() {
    let (house, tenant) = open().await;
    house
        .simulator
        .purchase(&tenant.id, Product::Growth)
        .await
        .unwrap();
    house.settle_waits().await;
    let before = askings(&house);
    let renamed =
        json!({"type": "organization.updated", "data": {"id": tenant.id, "name": "Acme & Co"}});
    house.tell(&[renamed]).await;
    house.settle_waits().await;
    assert_eq!(
        house
            .simulator
            .customer(&tenant.id)
            .unwrap()
            .name
            .as_deref(),
        Some("Acme & Co")
    );
    assert_eq!(askings(&house), before);
    assert_eq!(plan(&house).await, growth());
}

/// Its own deliveries ask for what they are about; the states that come with them ask nothing more.
#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_costs_one_look_at_grants_and_one_at_subscriptions() {
    let (house, tenant) = open().await;
    let before = askings(&house);
    house
        .simulator
        .purchase(&tenant.id, Product::Scale)
        .await
        .unwrap();
    assert!(house.simulator.deliveries_settled(PATIENCE).await);
    house.settle_waits().await;
    let told =
        "SELECT count(*) FROM polar_jobs.external_events WHERE type = 'customer.state_changed'";
    assert!(house.count(told).await > 2);
    assert_eq!(askings(&house), before + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_says_more_than_is_held_replaces_deliveries_that_were_lost() {
    let (house, tenant) = open().await;
    house.simulator.set_webhook_url(None);
    house
        .simulator
        .purchase(&tenant.id, Product::Growth)
        .await
        .unwrap();
    assert!(house.simulator.deliveries_settled(PATIENCE).await);
    assert_eq!(plan(&house).await.0, "Free");
    house
        .deliver("customer.state_changed", &state(&house, &tenant).await)
        .await;
    house.settle_waits().await;
    assert_eq!(plan(&house).await, growth());

    house.simulator.revoke(&tenant.id).await.unwrap();
    house
        .deliver("customer.state_changed", &state(&house, &tenant).await)
        .await;
    house.settle_waits().await;
    assert_eq!(plan(&house).await, ("Free".to_owned(), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_state_of_earlier_days_changes_nothing() {
    let (house, tenant) = open().await;
    let early = state(&house, &tenant).await;
    house
        .simulator
        .purchase(&tenant.id, Product::Growth)
        .await
        .unwrap();
    house.settle_waits().await;
    let before = askings(&house);
    house.deliver("customer.state_changed", &early).await;
    house.settle_waits().await;
    assert_eq!(plan(&house).await, growth());
    assert!(
        askings(&house) > before,
        "it differs from what is held, so Polar is asked"
    );
}

/// The state does not list a past due subscription, so it is no proof of what is held.
#[tokio::test(flavor = "multi_thread")]
async fn a_state_is_no_proof_of_what_it_does_not_tell() {
    let (house, tenant) = open().await;
    house
        .simulator
        .purchase(&tenant.id, Product::Growth)
        .await
        .unwrap();
    house.simulator.fail_payment(&tenant.id).await.unwrap();
    house.settle_waits().await;
    house.simulator.set_webhook_url(None);
    house.simulator.recover_payment(&tenant.id).await.unwrap();
    let mut state = state(&house, &tenant).await;
    state["active_subscriptions"] = json!([]);
    house.deliver("customer.state_changed", &state).await;
    house.settle_waits().await;
    let recovered = "SELECT count(*) FROM polar_jobs.subscriptions WHERE status = 'active'";
    assert_eq!(house.count(recovered).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_lacks_a_part_and_one_about_an_organization_out_of_step_are_reasons_to_ask() {
    let (house, tenant) = open().await;
    let whole = state(&house, &tenant).await;
    let mut partial = whole.clone();
    partial.as_object_mut().unwrap().remove("granted_benefits");
    let before = askings(&house);
    house.deliver("customer.state_changed", &partial).await;
    house.settle_waits().await;
    assert_eq!(askings(&house), before + 2);

    sqlx::query("UPDATE polar_jobs.organizations SET stale = true")
        .execute(&house.pool)
        .await
        .unwrap();
    house.deliver("customer.state_changed", &whole).await;
    house.settle_waits().await;
    assert!(askings(&house) >= before + 4);
}
