//! `customer.state_changed`: read for what it says, a reason to ask only where that is news.

use serde_json::{Value, json};
use simulator::Product;

use crate::test_app::{DEADLINE, Tenant, TestApp};

/// What was asked about grants and subscriptions.
fn askings(app: &TestApp) -> usize {
    let about = ["/v1/benefit-grants/", "/v1/subscriptions/"];
    let requests = app.simulator.requests();
    requests
        .iter()
        .filter(|request| about.contains(&request.path.as_str()))
        .count()
}

async fn open() -> (TestApp, Tenant) {
    let (app, tenant) = (TestApp::open().await, Tenant::new());
    app.tell(&[tenant.created()]).await;
    app.work_until_idle().await;
    (app, tenant)
}

async fn plan(app: &TestApp) -> (String, Option<String>) {
    sqlx::query_as("SELECT plan, support_tier FROM polar_jobs.entitlements")
        .fetch_one(&app.pool)
        .await
        .unwrap()
}

fn growth() -> (String, Option<String>) {
    ("Growth".to_owned(), Some("growth".to_owned()))
}

/// The state of the customer as Polar tells it now.
async fn state(app: &TestApp, tenant: &Tenant) -> Value {
    let path = format!("/v1/customers/external/{}/state", tenant.id);
    app.at_polar("GET", &path, None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_up_costs_two_calls() {
    let (app, _) = open().await;
    let ignored = "SELECT count(*) FROM polar_jobs.external_events WHERE type = 'customer.state_changed' AND outcome = 'ignored'";
    assert!(app.count(ignored).await > 0);
    let calls: Vec<String> = app
        .simulator
        .requests()
        .into_iter()
        .map(|request| format!("{} {}", request.method, request.path))
        .collect();
    assert!(calls.len() <= 2, "{calls:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_of_a_paying_organization_asks_for_nothing_that_is_held_already() {
    let (app, tenant) = open().await;
    app.simulator
        .purchase(&tenant.id, Product::Growth)
        .await
        .unwrap();
    app.resolve_waits().await;
    let before = askings(&app);
    let renamed =
        json!({"type": "organization.updated", "data": {"id": tenant.id, "name": "Acme & Co"}});
    app.tell(&[renamed]).await;
    app.resolve_waits().await;
    assert_eq!(
        app.simulator.customer(&tenant.id).unwrap().name.as_deref(),
        Some("Acme & Co")
    );
    assert_eq!(askings(&app), before);
    assert_eq!(plan(&app).await, growth());
}

/// Its own deliveries ask for what they are about; the states that come with them ask nothing more.
#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_costs_one_look_at_grants_and_one_at_subscriptions() {
    let (app, tenant) = open().await;
    let before = askings(&app);
    app.simulator
        .purchase(&tenant.id, Product::Scale)
        .await
        .unwrap();
    assert!(app.simulator.deliveries_finished(DEADLINE).await);
    app.resolve_waits().await;
    let ignored =
        "SELECT count(*) FROM polar_jobs.external_events WHERE type = 'customer.state_changed'";
    assert!(app.count(ignored).await > 2);
    assert_eq!(askings(&app), before + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_says_more_than_is_held_replaces_deliveries_that_were_lost() {
    let (app, tenant) = open().await;
    app.simulator.set_webhook_url(None);
    app.simulator
        .purchase(&tenant.id, Product::Growth)
        .await
        .unwrap();
    assert!(app.simulator.deliveries_finished(DEADLINE).await);
    assert_eq!(plan(&app).await.0, "Free");
    app.deliver("customer.state_changed", &state(&app, &tenant).await)
        .await;
    app.resolve_waits().await;
    assert_eq!(plan(&app).await, growth());

    app.simulator.revoke(&tenant.id).await.unwrap();
    app.deliver("customer.state_changed", &state(&app, &tenant).await)
        .await;
    app.resolve_waits().await;
    assert_eq!(plan(&app).await, ("Free".to_owned(), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_state_of_earlier_days_changes_nothing() {
    let (app, tenant) = open().await;
    let early = state(&app, &tenant).await;
    app.simulator
        .purchase(&tenant.id, Product::Growth)
        .await
        .unwrap();
    app.resolve_waits().await;
    let before = askings(&app);
    app.deliver("customer.state_changed", &early).await;
    app.resolve_waits().await;
    assert_eq!(plan(&app).await, growth());
    assert!(
        askings(&app) > before,
        "it differs from what is held, so Polar is asked"
    );
}

/// Two states that are handled together: the later one tells what the earlier one did not know yet.
#[tokio::test(flavor = "multi_thread")]
async fn of_several_states_the_newest_decides_whether_polar_is_asked() {
    let (app, tenant) = open().await;
    let early = state(&app, &tenant).await;
    app.simulator
        .purchase(&tenant.id, Product::Growth)
        .await
        .unwrap();
    app.resolve_waits().await;
    let before = askings(&app);
    app.deliver("customer.state_changed", &early).await;
    app.deliver("customer.state_changed", &state(&app, &tenant).await)
        .await;
    app.resolve_waits().await;
    assert_eq!(askings(&app), before);
    assert_eq!(plan(&app).await, growth());
}

/// The state does not list a past due subscription, so it is no proof of what is held.
#[tokio::test(flavor = "multi_thread")]
async fn a_state_is_no_proof_of_what_it_does_not_tell() {
    let (app, tenant) = open().await;
    app.simulator
        .purchase(&tenant.id, Product::Growth)
        .await
        .unwrap();
    app.simulator.fail_payment(&tenant.id).await.unwrap();
    app.resolve_waits().await;
    app.simulator.set_webhook_url(None);
    app.simulator.recover_payment(&tenant.id).await.unwrap();
    let mut state = state(&app, &tenant).await;
    state["active_subscriptions"] = json!([]);
    app.deliver("customer.state_changed", &state).await;
    app.resolve_waits().await;
    let recovered = "SELECT count(*) FROM polar_jobs.subscriptions WHERE status = 'active'";
    assert_eq!(app.count(recovered).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_lacks_a_part_and_one_about_an_organization_out_of_step_are_reasons_to_ask() {
    let (app, tenant) = open().await;
    let whole = state(&app, &tenant).await;
    let mut partial = whole.clone();
    partial.as_object_mut().unwrap().remove("granted_benefits");
    let before = askings(&app);
    app.deliver("customer.state_changed", &partial).await;
    app.resolve_waits().await;
    assert_eq!(askings(&app), before + 2);

    sqlx::query("UPDATE polar_jobs.organizations SET stale = true")
        .execute(&app.pool)
        .await
        .unwrap();
    app.deliver("customer.state_changed", &whole).await;
    app.resolve_waits().await;
    assert!(askings(&app) >= before + 4);
}
