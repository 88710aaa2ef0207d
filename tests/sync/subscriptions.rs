//! `sync_subscription`: which of a customer's subscriptions is in force.

use chrono::TimeDelta;
use serde_json::json;
use simulator::Product;
use uuid::Uuid;

use crate::test_app::{DEADLINE, Tenant, TestApp};

type Plan = (String, Option<String>);

/// An installation with one synced organization.
async fn open() -> (TestApp, Tenant) {
    let (app, tenant) = (TestApp::open().await, Tenant::new());
    app.tell(&[tenant.created()]).await;
    app.work_until_idle().await;
    (app, tenant)
}

async fn plan(app: &TestApp, tenant: &Tenant) -> Plan {
    sqlx::query_as(
        "SELECT plan, subscription_status FROM polar_jobs.entitlements WHERE organization_id = $1::text::uuid",
    )
    .bind(&tenant.id)
    .fetch_one(&app.pool)
    .await
    .unwrap()
}

fn on(plan: &str, status: &str) -> Plan {
    (plan.to_owned(), Some(status.to_owned()))
}

fn free() -> Plan {
    ("Free".to_owned(), None)
}

async fn mirrored(app: &TestApp) -> Vec<(Uuid, String)> {
    sqlx::query_as("SELECT subscription_id, status FROM polar_jobs.subscriptions")
        .fetch_all(&app.pool)
        .await
        .unwrap()
}

/// Buys a plan some days after what was bought before.
async fn buy(app: &TestApp, tenant: &Tenant, product: Product) -> Uuid {
    app.simulator.advance(TimeDelta::days(2)).await;
    app.simulator.purchase(&tenant.id, product).await.unwrap()
}

async fn revoke(app: &TestApp, subscription: Uuid) {
    let path = format!("/v1/subscriptions/{subscription}");
    let revoke = json!({"revoke": true});
    app.at_polar("PATCH", &path, Some(&revoke)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_subscription_that_was_cancelled_never_hides_a_living_one() {
    let (app, tenant) = open().await;
    let living = buy(&app, &tenant, Product::Pro).await;
    let later = buy(&app, &tenant, Product::Growth).await;
    revoke(&app, later).await;
    app.work_until_idle().await;
    assert_eq!(plan(&app, &tenant).await, on("Pro", "active"));
    assert_eq!(mirrored(&app).await, [(living, "active".to_owned())]);
    let fee = "SELECT fee_basis_points::bigint FROM polar_jobs.accounts";
    assert_eq!(app.count(fee).await, 380);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_living_one_goes_before_a_paused_one_and_that_before_an_ended_one() {
    let (app, tenant) = open().await;
    let paused = buy(&app, &tenant, Product::Pro).await;
    app.simulator.pause(&tenant.id).await.unwrap();
    app.work_until_idle().await;
    assert_eq!(plan(&app, &tenant).await, on("Pro", "paused"));

    let living = buy(&app, &tenant, Product::Growth).await;
    app.work_until_idle().await;
    assert_eq!(plan(&app, &tenant).await, on("Growth", "active"));

    revoke(&app, living).await;
    app.work_until_idle().await;
    assert_eq!(plan(&app, &tenant).await, on("Pro", "paused"));
    assert_eq!(mirrored(&app).await, [(paused, "paused".to_owned())]);

    revoke(&app, paused).await;
    app.work_until_idle().await;
    assert_eq!(plan(&app, &tenant).await, free());
    assert_eq!(
        mirrored(&app).await,
        [(living, "canceled".to_owned())],
        "the newest that ended stays to be seen"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_past_due_subscription_is_in_force_and_an_unpaid_one_reads_as_free() {
    let (app, tenant) = open().await;
    buy(&app, &tenant, Product::Pro).await;
    app.simulator.fail_payment(&tenant.id).await.unwrap();
    app.work_until_idle().await;
    assert_eq!(plan(&app, &tenant).await, on("Pro", "past_due"));
    app.simulator
        .step(&tenant.id, simulator::SubscriptionStep::ExhaustDunning)
        .await
        .unwrap();
    app.work_until_idle().await;
    assert_eq!(plan(&app, &tenant).await, free());
}

/// A page holds a hundred.
#[tokio::test(flavor = "multi_thread")]
async fn a_living_subscription_is_found_behind_more_than_a_page_of_later_ones() {
    let (app, tenant) = open().await;
    let living = buy(&app, &tenant, Product::Pro).await;
    app.simulator.set_webhook_url(None);
    for _ in 0..101 {
        let later = buy(&app, &tenant, Product::Free).await;
        revoke(&app, later).await;
    }
    assert!(app.simulator.deliveries_finished(DEADLINE).await);
    let updated = json!({"id": living, "customer": {"external_id": tenant.id}});
    app.deliver("subscription.updated", &updated).await;
    app.work_until_idle().await;
    assert_eq!(mirrored(&app).await, [(living, "active".to_owned())]);
    let pages = app.simulator.requests();
    let pages = pages
        .iter()
        .filter(|request| request.path == "/v1/subscriptions/" && request.query.contains("page=2"));
    assert!(pages.count() > 0, "the second page was never read");
}
