//! `sync_subscription`: which of a customer's subscriptions is in force.

use chrono::TimeDelta;
use serde_json::json;
use simulator::Product;
use uuid::Uuid;

use crate::house::{House, PATIENCE, Tenant};

type Plan = (String, Option<String>);

/// An installation with one synced organization.
async fn open() -> (House, Tenant) {
    let (house, tenant) = (House::open().await, Tenant::new());
    house.tell(&[tenant.created()]).await;
    house.settle().await;
    (house, tenant)
}

async fn plan(house: &House, tenant: &Tenant) -> Plan {
    sqlx::query_as(
        "SELECT plan, subscription_status FROM polar_jobs.entitlements WHERE organization_id = $1::text::uuid",
    )
    .bind(&tenant.id)
    .fetch_one(&house.pool)
    .await
    .unwrap()
}

fn on(plan: &str, status: &str) -> Plan {
    (plan.to_owned(), Some(status.to_owned()))
}

fn free() -> Plan {
    ("Free".to_owned(), None)
}

async fn mirrored(house: &House) -> Vec<(Uuid, String)> {
    sqlx::query_as("SELECT subscription_id, status FROM polar_jobs.subscriptions")
        .fetch_all(&house.pool)
        .await
        .unwrap()
}

/// Buys a plan some days after what was bought before.
async fn buy(house: &House, tenant: &Tenant, product: Product) -> Uuid {
    house.simulator.advance(TimeDelta::days(2)).await;
    house.simulator.purchase(&tenant.id, product).await.unwrap()
}

async fn revoke(house: &House, subscription: Uuid) {
    let path = format!("/v1/subscriptions/{subscription}");
    let revoke = json!({"revoke": true});
    house.at_polar("PATCH", &path, Some(&revoke)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_subscription_that_was_cancelled_never_hides_a_living_one() {
    let (house, tenant) = open().await;
    let living = buy(&house, &tenant, Product::Pro).await;
    let later = buy(&house, &tenant, Product::Growth).await;
    revoke(&house, later).await;
    house.settle().await;
    assert_eq!(plan(&house, &tenant).await, on("Pro", "active"));
    assert_eq!(mirrored(&house).await, [(living, "active".to_owned())]);
    let fee = "SELECT fee_basis_points::bigint FROM polar_jobs.accounts";
    assert_eq!(house.count(fee).await, 380);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_living_one_goes_before_a_paused_one_and_that_before_an_ended_one() {
    let (house, tenant) = open().await;
    let paused = buy(&house, &tenant, Product::Pro).await;
    house.simulator.pause(&tenant.id).await.unwrap();
    house.settle().await;
    assert_eq!(plan(&house, &tenant).await, on("Pro", "paused"));

    let living = buy(&house, &tenant, Product::Growth).await;
    house.settle().await;
    assert_eq!(plan(&house, &tenant).await, on("Growth", "active"));

    revoke(&house, living).await;
    house.settle().await;
    assert_eq!(plan(&house, &tenant).await, on("Pro", "paused"));
    assert_eq!(mirrored(&house).await, [(paused, "paused".to_owned())]);

    revoke(&house, paused).await;
    house.settle().await;
    assert_eq!(plan(&house, &tenant).await, free());
    assert_eq!(
        mirrored(&house).await,
        [(living, "canceled".to_owned())],
        "the newest that ended stays to be seen"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_past_due_subscription_is_in_force_and_an_unpaid_one_reads_as_free() {
    let (house, tenant) = open().await;
    buy(&house, &tenant, Product::Pro).await;
    house.simulator.fail_payment(&tenant.id).await.unwrap();
    house.settle().await;
    assert_eq!(plan(&house, &tenant).await, on("Pro", "past_due"));
    house
        .simulator
        .step(&tenant.id, simulator::SubscriptionStep::ExhaustDunning)
        .await
        .unwrap();
    house.settle().await;
    assert_eq!(plan(&house, &tenant).await, free());
}

/// A page holds a hundred.
#[tokio::test(flavor = "multi_thread")]
async fn a_living_subscription_is_found_behind_more_than_a_page_of_later_ones() {
    let (house, tenant) = open().await;
    let living = buy(&house, &tenant, Product::Pro).await;
    house.simulator.set_webhook_url(None);
    for _ in 0..101 {
        let later = buy(&house, &tenant, Product::Free).await;
        revoke(&house, later).await;
    }
    assert!(house.simulator.deliveries_settled(PATIENCE).await);
    let updated = json!({"id": living, "customer": {"external_id": tenant.id}});
    house.deliver("subscription.updated", &updated).await;
    house.settle().await;
    assert_eq!(mirrored(&house).await, [(living, "active".to_owned())]);
    let pages = house.simulator.requests();
    let pages = pages
        .iter()
        .filter(|request| request.path == "/v1/subscriptions/" && request.query.contains("page=2"));
    assert!(pages.count() > 0, "the second page was never read");
}
