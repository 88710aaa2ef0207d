//! Deliveries about customers that are none of ours, and about our own organization.

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

async fn outcomes(app: &TestApp) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT DISTINCT outcome FROM polar_jobs.external_events
          WHERE source = 'polar' AND type NOT LIKE 'order.%' ORDER BY 1",
    )
    .fetch_all(&app.pool)
    .await
    .unwrap()
}

async fn notes(app: &TestApp) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT DISTINCT state || ': ' || coalesce(note, errors::text)
           FROM polar_jobs.jobs WHERE kind IN ('apply_benefits', 'sync_subscription')",
    )
    .fetch_all(&app.pool)
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_whose_external_id_is_none_of_ours_is_ignored_with_the_reason() {
    let app = TestApp::open().await;
    let upper = Tenant::new().id.to_uppercase();
    for external_id in ["shop-7", &upper] {
        let team = json!({"type": "team", "name": "Shop", "external_id": external_id,
            "owner": {"email": "owner@example.com", "name": "Olga", "external_id": "olga"}});
        app.at_polar("POST", "/v1/customers/", Some(&team)).await;
        app.simulator
            .purchase(external_id, Product::Scale)
            .await
            .unwrap();
    }
    let before = askings(&app);
    app.work_until_idle().await;
    assert_eq!(outcomes(&app).await, ["ignored"]);
    assert_eq!(
        notes(&app).await,
        ["completed: the customer carries no external id of ours, and its id is not known here"]
    );
    assert_eq!(askings(&app), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_without_an_external_id_is_ignored_with_the_reason() {
    let app = TestApp::open().await;
    let team = json!({"type": "team", "name": "Shop", "owner": {"email": "owner@example.com"}});
    let customer: Value = app.at_polar("POST", "/v1/customers/", Some(&team)).await;
    assert!(app.simulator.deliveries_finished(DEADLINE).await);
    for event_type in ["benefit_grant.created", "subscription.active"] {
        let data = json!({"id": uuid::Uuid::new_v4(), "customer_id": customer["id"], "customer": customer,
            "benefit": {"metadata": {"type": "sso"}}});
        app.deliver(event_type, &data).await;
    }
    app.work_until_idle().await;
    assert_eq!(outcomes(&app).await, ["ignored"]);
    assert!(
        notes(&app)
            .await
            .iter()
            .all(|note| note.starts_with("completed: the customer carries no external id"))
    );
    assert_eq!(askings(&app), 0);
}

/// The organization that sells the plans is never synced, whatever is bought in its name.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_asked_about_the_self_organization() {
    let app = TestApp::open().await;
    let tenant = Tenant {
        id: app.simulator.organization_id().to_string(),
        ..Tenant::new()
    };
    app.tell(&[tenant.created()]).await;
    app.work_until_idle().await;
    let customer = json!({"id": uuid::Uuid::new_v4(), "external_id": tenant.id});
    for event_type in ["benefit_grant.created", "subscription.active"] {
        let data = json!({"id": uuid::Uuid::new_v4(), "customer": customer});
        app.deliver(event_type, &data).await;
    }
    app.work_until_idle().await;
    assert_eq!(
        notes(&app).await,
        ["completed: the self organization is no customer of its own"]
    );
    assert!(app.simulator.requests().is_empty());
    let stale = "SELECT count(*) FROM polar_jobs.organizations WHERE stale";
    assert_eq!(app.count(stale).await, 0);
}
