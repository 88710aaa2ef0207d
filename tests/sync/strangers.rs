//! Deliveries about customers that are none of ours, and about our own organization.

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

async fn outcomes(house: &House) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT DISTINCT outcome FROM polar_jobs.external_events WHERE source = 'polar' ORDER BY 1",
    )
    .fetch_all(&house.pool)
    .await
    .unwrap()
}

async fn notes(house: &House) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT DISTINCT state || ': ' || coalesce(note, errors::text)
           FROM polar_jobs.jobs WHERE kind IN ('apply_benefits', 'sync_subscription')",
    )
    .fetch_all(&house.pool)
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_whose_external_id_is_none_of_ours_is_ignored_with_the_reason() {
    let house = House::open().await;
    let upper = Tenant::new().id.to_uppercase();
    for external_id in ["shop-7", &upper] {
        let team = json!({"type": "team", "name": "Shop", "external_id": external_id,
            "owner": {"email": "owner@example.com", "name": "Olga", "external_id": "olga"}});
        house.at_polar("POST", "/v1/customers/", Some(&team)).await;
        house
            .simulator
            .purchase(external_id, Product::Scale)
            .await
            .unwrap();
    }
    let before = askings(&house);
    house.settle().await;
    assert_eq!(outcomes(&house).await, ["ignored"]);
    assert_eq!(
        notes(&house).await,
        ["completed: the customer carries no external id of ours, and its id is not known here"]
    );
    assert_eq!(askings(&house), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_without_an_external_id_is_ignored_with_the_reason() {
    let house = House::open().await;
    let team = json!({"type": "team", "name": "Shop", "owner": {"email": "owner@example.com"}});
    let customer: Value = house.at_polar("POST", "/v1/customers/", Some(&team)).await;
    assert!(house.simulator.deliveries_settled(PATIENCE).await);
    for event_type in ["benefit_grant.created", "subscription.active"] {
        let data = json!({"id": uuid::Uuid::new_v4(), "customer_id": customer["id"], "customer": customer,
            "benefit": {"metadata": {"type": "sso"}}});
        house.deliver(event_type, &data).await;
    }
    house.settle().await;
    assert_eq!(outcomes(&house).await, ["ignored"]);
    assert!(
        notes(&house)
            .await
            .iter()
            .all(|note| note.starts_with("completed: the customer carries no external id"))
    );
    assert_eq!(askings(&house), 0);
}

/// The organization that sells the plans is never synced, whatever is bought in its name.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_asked_about_the_self_organization() {
    let house = House::open().await;
    let tenant = Tenant {
        id: house.simulator.organization_id().to_string(),
        ..Tenant::new()
    };
    house.tell(&[tenant.created()]).await;
    house.settle().await;
    let customer = json!({"id": uuid::Uuid::new_v4(), "external_id": tenant.id});
    for event_type in ["benefit_grant.created", "subscription.active"] {
        let data = json!({"id": uuid::Uuid::new_v4(), "customer": customer});
        house.deliver(event_type, &data).await;
    }
    house.settle().await;
    assert_eq!(
        notes(&house).await,
        ["completed: the self organization is no customer of its own"]
    );
    assert!(house.simulator.requests().is_empty());
    let stale = "SELECT count(*) FROM polar_jobs.organizations WHERE stale";
    assert_eq!(house.count(stale).await, 0);
}
