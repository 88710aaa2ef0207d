//! Routes of which no success was recorded still answer in the described shape.

use crate::common::{Api, start};
use crate::description::Description;
use serde_json::{Value, json};
use simulator::{Options, Product};

#[tokio::test]
async fn a_checkout_opens_in_the_described_shape() {
    let simulator = start(Options::default()).await;
    let api = Api::of(&simulator);
    assert_eq!(api.create_customer("acme").await.status, 201);
    let pro = simulator.product_id(Product::Pro).unwrap();
    let opened = api
        .post(
            "/v1/checkouts/",
            json!({"products": [pro], "external_customer_id": "acme"}),
        )
        .await;
    assert_eq!(opened.status, 201);
    let objections = Description::load().answer("POST", "/v1/checkouts/", 201, &opened.body);
    assert_eq!(objections, Some(Vec::new()));
    assert_eq!(
        (&opened.body["status"], &opened.body["amount"]),
        (&json!("open"), &json!(2000))
    );
    let missing = api.post("/v1/checkouts/", json!({})).await;
    missing.finds_invalid("products");
}

#[tokio::test]
async fn the_seeded_plans_grant_what_the_application_reads() {
    let simulator = start(Options::default()).await;
    let api = Api::of(&simulator);
    let listed = api
        .get("/v1/products/?is_recurring=true&is_archived=false&limit=100&sorting=name")
        .await
        .body;
    let named: Vec<(&str, usize)> = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|product| {
            (
                product["name"].as_str().unwrap(),
                product["benefits"].as_array().unwrap().len(),
            )
        })
        .collect();
    assert_eq!(
        named,
        [("Free Plan", 0), ("Growth", 3), ("Pro", 2), ("Scale", 4)]
    );
    let fee = simulator
        .benefit_id(Product::Pro, "transaction_fee")
        .unwrap();
    let fee = api.get(&format!("/v1/benefits/{fee}")).await.body;
    let expected = json!({"type": "transaction_fee", "fee_percent": 380, "fee_fixed": 35, "subscription_fee_percent": 0});
    assert_eq!(fee["metadata"], expected);
    assert_eq!(
        api.get("/v1/benefits/?limit=100").await.body["pagination"]["total_count"],
        8
    );
}

#[tokio::test]
async fn organizations_and_events_are_listed() {
    let simulator = start(Options::default()).await;
    let api = Api::of(&simulator);
    let id = simulator.organization_id();
    assert_eq!(
        api.get(&format!("/v1/organizations/{id}")).await.body["id"],
        json!(id)
    );
    assert_eq!(
        api.get("/v1/organizations/00000000-0000-4000-8000-000000000000")
            .await
            .status,
        404
    );
    let event = |id: &str, name: &str| json!({"name": name, "external_customer_id": "acme", "external_id": id});
    api.ingest(json!([event("1", "a"), event("2", "b")])).await;
    let listed = api.get("/v1/events/?name=b").await.body;
    assert_eq!(
        (
            listed["items"].as_array().unwrap().len(),
            &listed["items"][0]["external_id"]
        ),
        (1, &json!("2"))
    );
}

#[tokio::test]
async fn an_endpoint_can_be_read_and_removed() {
    let simulator = start(Options {
        webhook_url: Some("http://127.0.0.1:1/".into()),
        ..Options::default()
    })
    .await;
    let api = Api::of(&simulator);
    let listed = api.get("/v1/webhooks/endpoints").await.body;
    let path = format!(
        "/v1/webhooks/endpoints/{}",
        listed["items"][0]["id"].as_str().unwrap()
    );
    assert_eq!(api.get(&path).await.body["enabled"], true);
    assert_eq!(api.delete(&path).await.status, 204);
    assert_eq!(api.get(&path).await.status, 404);
    assert_eq!(api.create_customer("acme").await.status, 201);
    assert_eq!(simulator.deliveries(), []);
}

#[tokio::test]
async fn two_runs_share_no_ids() {
    let (first, second) = (
        start(Options::default()).await,
        start(Options::default()).await,
    );
    let (one, other) = (
        Api::of(&first).create_customer("a").await,
        Api::of(&second).create_customer("a").await,
    );
    assert_ne!(one.body["id"], other.body["id"]);
    assert_ne!(one.body["id"], Value::Null);
}
