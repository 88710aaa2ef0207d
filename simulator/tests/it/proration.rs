//! What a change of plan costs depends on the day, the discount and the card; moved clocks show each to the cent.

use crate::common::{Answer, Api, start, stopped_clock};
use crate::description::Description;
use chrono::TimeDelta;
use serde_json::{Value, json};
use simulator::{Product, Simulator, SubscriptionStep};

/// A customer on a plan since the first of November, which has thirty days.
async fn begin(plan: Product) -> (Simulator, Api, String) {
    let simulator = start(stopped_clock()).await;
    let api = Api::of(&simulator);
    assert_eq!(api.create_customer("acme").await.status, 201);
    let id = simulator.purchase("acme", plan).await.unwrap();
    (simulator, api, format!("/v1/subscriptions/{id}"))
}

async fn change(simulator: &Simulator, api: &Api, path: &str, plan: Product, how: &str) -> Answer {
    let product = simulator.product_id(plan).unwrap();
    let wanted = json!({"product_id": product, "proration_behavior": how});
    api.patch(path, wanted).await
}

async fn newest_order(api: &Api) -> Value {
    let listed = api
        .get("/v1/orders/?external_customer_id=acme&sorting=-created_at")
        .await;
    let objections = Description::load().answer("GET", "/v1/orders/", 200, &listed.body);
    assert_eq!(objections, Some(Vec::new()));
    listed.body["items"][0].clone()
}

#[tokio::test]
async fn an_upgrade_charges_at_once_what_is_left_of_the_period() {
    let (simulator, api, path) = begin(Product::Pro).await;
    simulator.advance(TimeDelta::days(20)).await;
    let changed = change(&simulator, &api, &path, Product::Scale, "invoice").await;
    changed.has(200, "amount", 10_000);
    let order = newest_order(&api).await;
    assert_eq!(order["billing_reason"], "subscription_update");
    assert_eq!(order["status"], "paid");
    let lines: Vec<(&Value, &Value)> = order["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| (&item["amount"], &item["proration"]))
        .collect();
    let yes = json!(true);
    assert_eq!(lines, [(&json!(-667), &yes), (&json!(3333), &yes)]);
    assert_eq!(order["net_amount"], 2666);
    assert_eq!(
        order["total_amount"],
        order["net_amount"].as_i64().unwrap() + order["tax_amount"].as_i64().unwrap()
    );
}

#[tokio::test]
async fn a_change_with_prorate_is_charged_with_the_next_period() {
    let (simulator, api, path) = begin(Product::Pro).await;
    simulator.advance(TimeDelta::days(15)).await;
    let changed = change(&simulator, &api, &path, Product::Growth, "prorate").await;
    assert_eq!(changed.status, 200);
    assert_eq!(simulator.orders("acme").len(), 1, "nothing is charged yet");
    simulator.advance(TimeDelta::days(16)).await;
    let order = newest_order(&api).await;
    assert_eq!(order["billing_reason"], "subscription_cycle");
    assert_eq!(order["items"].as_array().unwrap().len(), 3);
    assert_eq!(order["net_amount"], 5000 - 1000 + 2500);
}

#[tokio::test]
async fn a_downgrade_waits_for_the_period_to_end() {
    let (simulator, api, path) = begin(Product::Scale).await;
    simulator.advance(TimeDelta::days(10)).await;
    let changed = change(&simulator, &api, &path, Product::Pro, "next_period").await;
    assert_eq!(changed.body["amount"], 10_000, "nothing has changed yet");
    simulator.advance(TimeDelta::days(21)).await;
    assert_eq!(simulator.subscriptions("acme")[0].product, "Pro");
    assert_eq!(newest_order(&api).await["net_amount"], 2000);
}

#[tokio::test]
async fn what_a_downgrade_gives_back_pays_for_later_orders() {
    let (simulator, api, path) = begin(Product::Scale).await;
    simulator.advance(TimeDelta::days(15)).await;
    let changed = change(&simulator, &api, &path, Product::Pro, "invoice").await;
    assert_eq!(changed.status, 200);
    let credit = newest_order(&api).await;
    assert_eq!(
        (&credit["net_amount"], &credit["due_amount"]),
        (&json!(-4000), &json!(0))
    );
    simulator.advance(TimeDelta::days(16)).await;
    let renewal = newest_order(&api).await;
    assert_eq!(renewal["net_amount"], 2000);
    let total = renewal["total_amount"].as_i64().unwrap();
    assert_eq!(renewal["applied_balance_amount"], -total);
    assert_eq!(renewal["due_amount"], 0);
}

#[tokio::test]
async fn a_card_that_is_declined_changes_nothing() {
    let (simulator, api, path) = begin(Product::Free).await;
    simulator.add_card("acme", "0341", true).await.unwrap();
    simulator.advance(TimeDelta::days(1)).await;
    let before = api.get(&path).await.body;
    let refused = change(&simulator, &api, &path, Product::Pro, "invoice").await;
    refused.has(402, "error", "PaymentFailed");
    assert_eq!(
        refused.body["detail"],
        "Payment failed with reason: card_error."
    );
    assert_eq!(api.get(&path).await.body, before);
    assert_eq!(simulator.orders("acme").len(), 1);
}

#[tokio::test]
async fn a_renewal_with_a_card_that_is_declined_is_past_due() {
    let (simulator, _api, _path) = begin(Product::Pro).await;
    simulator
        .set_billing_details("acme", Value::Null, false)
        .await
        .unwrap();
    simulator.add_card("acme", "0341", true).await.unwrap();
    simulator.advance(TimeDelta::days(31)).await;
    assert_eq!(simulator.subscriptions("acme")[0].status, "past_due");
    assert_eq!(simulator.orders("acme")[1].status, "pending");
}

#[tokio::test]
async fn a_product_and_its_discount_travel_in_one_request_and_are_prorated_together() {
    let (simulator, api, path) = begin(Product::Pro).await;
    let startup = json!({
        "name": "Startup", "type": "percentage", "basis_points": 10_000, "duration": "repeating",
        "duration_in_months": 12, "max_redemptions": 1,
    });
    let discount = api.post("/v1/discounts/", startup).await.body["id"].clone();
    simulator.advance(TimeDelta::days(15)).await;
    let scale = simulator.product_id(Product::Scale).unwrap();
    let wanted =
        json!({"product_id": scale, "discount_id": discount, "proration_behavior": "invoice"});
    let changed = api.patch(&path, wanted).await;
    changed.has(200, "amount", 0);
    let order = newest_order(&api).await;
    assert_eq!(
        order["net_amount"], -1000,
        "what was left of Pro is given back, Scale costs nothing"
    );
    let pro = simulator.product_id(Product::Pro).unwrap();
    let leaving = json!({"product_id": pro, "discount_id": null, "proration_behavior": "invoice"});
    let left = api.patch(&path, leaving).await;
    assert_eq!(
        (left.status, &left.body["amount"], &left.body["discount"]),
        (200, &json!(2000), &Value::Null)
    );
    let order = newest_order(&api).await;
    assert_eq!(
        (&order["net_amount"], &order["due_amount"]),
        (&json!(1000), &json!(0))
    );
}

#[tokio::test]
async fn a_discount_for_some_months_ends_with_them() {
    let (simulator, api, path) = begin(Product::Pro).await;
    let half = json!({
        "name": "Half", "type": "percentage", "basis_points": 5000, "duration": "repeating", "duration_in_months": 2,
    });
    let discount = api.post("/v1/discounts/", half).await.body["id"].clone();
    assert_eq!(
        api.patch(&path, json!({"discount_id": discount}))
            .await
            .body["amount"],
        1000
    );
    simulator.advance(TimeDelta::days(31)).await;
    assert_eq!(newest_order(&api).await["net_amount"], 1000);
    simulator.advance(TimeDelta::days(31)).await;
    assert_eq!(newest_order(&api).await["net_amount"], 2000);
    assert_eq!(api.get(&path).await.body["discount"], Value::Null);
}

#[tokio::test]
async fn a_discount_for_other_products_is_refused() {
    let (simulator, api, path) = begin(Product::Pro).await;
    let scale = simulator.product_id(Product::Scale).unwrap();
    let wanted = json!({
        "name": "Scale only", "type": "fixed", "amount": 500, "currency": "usd", "duration": "forever", "products": [scale],
    });
    let made = api.post("/v1/discounts/", wanted).await;
    assert_eq!(made.body["products"][0]["id"], json!(scale));
    let objections = Description::load().answer("POST", "/v1/discounts/", 201, &made.body);
    assert_eq!(objections, Some(Vec::new()));
    let discount = made.body["id"].clone();
    let refused = api.patch(&path, json!({"discount_id": discount})).await;
    refused.finds_invalid("discount_id");
    let both =
        json!({"product_id": scale, "discount_id": discount, "proration_behavior": "invoice"});
    assert_eq!(api.patch(&path, both).await.body["amount"], 9500);
}

#[tokio::test]
async fn a_locked_subscription_refuses_every_change_until_it_is_unlocked() {
    let (simulator, api, path) = begin(Product::Pro).await;
    simulator
        .step("acme", SubscriptionStep::Lock)
        .await
        .unwrap();
    for body in [
        json!({"cancel_at_period_end": true}),
        json!({"discount_id": null}),
        json!({}),
    ] {
        let refused = api.patch(&path, body).await;
        refused.has(409, "error", "SubscriptionLocked");
    }
    assert_eq!(api.delete(&path).await.status, 409);
    simulator
        .step("acme", SubscriptionStep::Unlock)
        .await
        .unwrap();
    assert_eq!(
        api.patch(&path, json!({"cancel_at_period_end": true}))
            .await
            .status,
        200
    );
}
