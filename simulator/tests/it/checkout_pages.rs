//! A checkout is paid by a person, on a page: chosen, paid, declined, too late or twice.

use crate::common::{Api, Receiver, TIMEOUT, start_with_acme, stopped_clock};
use chrono::TimeDelta;
use serde_json::{Value, json};
use simulator::{Product, Simulator};

async fn begin() -> (Simulator, Api, Receiver) {
    start_with_acme(stopped_clock()).await
}

/// Opens a checkout for a plan; `more` is added to the request.
async fn open(simulator: &Simulator, api: &Api, plan: Product, more: Value) -> Value {
    let mut wanted = json!({
        "products": [simulator.product_id(plan).unwrap()], "external_customer_id": "acme",
        "success_url": "https://app.example.com/done?id={CHECKOUT_ID}", "return_url": "https://app.example.com/plans",
    });
    for (key, value) in more.as_object().unwrap() {
        wanted[key] = value.clone();
    }
    let opened = api.post("/v1/checkouts/", wanted).await;
    assert_eq!(opened.status, 201, "{}", opened.body);
    opened.body
}

struct Page {
    status: u16,
    location: Option<String>,
    text: String,
}

async fn page(response: reqwest::Response) -> Page {
    let location = response.headers().get("location");
    Page {
        status: response.status().as_u16(),
        location: location.map(|value| value.to_str().unwrap().to_owned()),
        text: response.text().await.unwrap(),
    }
}

async fn look(api: &Api, checkout: &Value) -> Page {
    let url = checkout["url"].as_str().unwrap();
    page(api.client.get(url).send().await.unwrap()).await
}

async fn pay(api: &Api, checkout: &Value, card: &str) -> Page {
    let request = api
        .client
        .post(checkout["url"].as_str().unwrap())
        .header("content-type", "application/x-www-form-urlencoded")
        .body(format!("card={card}"));
    page(request.send().await.unwrap()).await
}

#[tokio::test]
async fn the_page_shows_plan_price_and_cards_and_paying_leads_back() {
    let (simulator, api, receiver) = begin().await;
    let checkout = open(&simulator, &api, Product::Pro, json!({})).await;
    let shown = look(&api, &checkout).await;
    assert_eq!(shown.status, 200);
    for wanted in [
        "Pro",
        "$20.00",
        "4242",
        "0002",
        "https://app.example.com/plans",
    ] {
        assert!(
            shown.text.contains(wanted),
            "{wanted} is not on {}",
            shown.text
        );
    }
    let paid = pay(&api, &checkout, "4242").await;
    let back = format!(
        "https://app.example.com/done?id={}",
        checkout["id"].as_str().unwrap()
    );
    assert_eq!((paid.status, paid.location), (303, Some(back)));
    let subscriptions = simulator.subscriptions("acme");
    assert_eq!(
        (subscriptions.len(), &*subscriptions[0].product),
        (1, "Pro")
    );
    assert_eq!(simulator.orders("acme")[0].status, "paid");
    assert_eq!(simulator.grants("acme").len(), 2);
    assert!(simulator.deliveries_finished(TIMEOUT).await);
    let types = receiver.types();
    let first = |kind: &str| types.iter().position(|one| one == kind).unwrap();
    assert!(first("checkout.created") < first("subscription.created"));
    assert!(first("subscription.created") < first("order.paid"));
}

#[tokio::test]
async fn paying_twice_buys_once() {
    let (simulator, api, _receiver) = begin().await;
    let checkout = open(&simulator, &api, Product::Pro, json!({})).await;
    let click = || pay(&api, &checkout, "4242");
    let (one, two, three, four) = tokio::join!(click(), click(), click(), click());
    assert_eq!(
        [one, two, three, four].map(|answer| answer.status),
        [303; 4]
    );
    assert_eq!(simulator.subscriptions("acme").len(), 1);
    assert_eq!(simulator.orders("acme").len(), 1);
    assert_eq!(look(&api, &checkout).await.status, 303);
}

#[tokio::test]
async fn a_declined_card_buys_nothing_and_another_one_may_be_tried() {
    let (simulator, api, _receiver) = begin().await;
    let checkout = open(&simulator, &api, Product::Pro, json!({})).await;
    let declined = pay(&api, &checkout, "0002").await;
    assert_eq!(declined.status, 402);
    assert!(declined.text.contains("Your card was declined"));
    assert_eq!(simulator.subscriptions("acme"), []);
    assert_eq!(pay(&api, &checkout, "9999").await.status, 422);
    assert_eq!(pay(&api, &checkout, "4242").await.status, 303);
}

#[tokio::test]
async fn a_checkout_expires_after_an_hour() {
    let (simulator, api, _receiver) = begin().await;
    let checkout = open(&simulator, &api, Product::Pro, json!({})).await;
    simulator.advance(TimeDelta::minutes(60)).await;
    assert_eq!(look(&api, &checkout).await.status, 410);
    assert_eq!(pay(&api, &checkout, "4242").await.status, 410);
    assert_eq!(simulator.subscriptions("acme"), []);
}

#[tokio::test]
async fn who_has_a_subscription_cannot_pay_for_a_second_one() {
    let (simulator, api, _receiver) = begin().await;
    let one = open(&simulator, &api, Product::Pro, json!({})).await;
    let other = open(&simulator, &api, Product::Scale, json!({})).await;
    assert_eq!(pay(&api, &one, "4242").await.status, 303);
    let refused = pay(&api, &other, "4242").await;
    assert_eq!(refused.status, 403);
    assert!(
        refused
            .text
            .contains("You already have an active subscription.")
    );
    assert_eq!(simulator.subscriptions("acme").len(), 1);
}

#[tokio::test]
async fn a_free_subscription_is_upgraded_in_place() {
    let (simulator, api, _receiver) = begin().await;
    let free = simulator.purchase("acme", Product::Free).await.unwrap();
    let upgrade = json!({"subscription_id": free});
    let checkout = open(&simulator, &api, Product::Growth, upgrade).await;
    assert_eq!(pay(&api, &checkout, "4242").await.status, 303);
    let subscriptions = simulator.subscriptions("acme");
    assert_eq!(subscriptions.len(), 1);
    assert_eq!(
        (subscriptions[0].id, &*subscriptions[0].product),
        (free, "Growth")
    );
    let order = simulator.orders("acme").pop().unwrap();
    assert_eq!(
        (order.billing_reason.as_str(), order.net_amount),
        ("subscription_update", 5000)
    );
}

#[tokio::test]
async fn a_discount_is_shown_redeemed_once_and_refused_when_it_is_used_up() {
    let (simulator, api, _receiver) = begin().await;
    let startup = json!({
        "name": "Startup", "type": "percentage", "basis_points": 10_000, "duration": "repeating",
        "duration_in_months": 12, "max_redemptions": 1,
    });
    let discount = api.post("/v1/discounts/", startup).await.body["id"].clone();
    let with = json!({"discount_id": discount});
    let path = format!("/v1/discounts/{}", discount.as_str().unwrap());
    let one = open(&simulator, &api, Product::Scale, with.clone()).await;
    let shown = look(&api, &one).await.text;
    assert!(
        shown.contains("$0.00") && shown.contains("<s>$100.00</s>"),
        "{shown}"
    );
    assert_eq!(
        api.get(&path).await.body["redemptions_count"],
        0,
        "an open checkout redeems nothing"
    );
    assert_eq!(pay(&api, &one, "4242").await.status, 303);
    assert_eq!(api.get(&path).await.body["redemptions_count"], 1);
    assert_eq!(simulator.orders("acme")[0].net_amount, 0);
    let scale = simulator.product_id(Product::Scale).unwrap();
    let again =
        json!({"products": [scale], "external_customer_id": "acme", "discount_id": discount});
    let refused = api.post("/v1/checkouts/", again).await;
    refused.finds_invalid("discount_id");
}

#[tokio::test]
async fn names_never_become_markup() {
    let (simulator, api, _receiver) = begin().await;
    let product = json!({
        "name": "<script>alert(1)</script>", "recurring_interval": "month",
        "prices": [{"amount_type": "fixed", "price_amount": 100, "price_currency": "usd"}],
    });
    let id = api.post("/v1/products/", product).await.body["id"].clone();
    let checkout = open(&simulator, &api, Product::Pro, json!({"products": [id]})).await;
    let shown = look(&api, &checkout).await.text;
    assert!(!shown.contains("<script>"), "{shown}");
    assert!(shown.contains("&lt;script&gt;"), "{shown}");
}

#[tokio::test]
async fn a_checkout_keeps_what_the_application_said_of_its_visitor() {
    let (simulator, api, _receiver) = begin().await;
    let more =
        json!({"customer_ip_address": "203.0.113.7", "embed_origin": "https://app.example.com"});
    let checkout = open(&simulator, &api, Product::Pro, more).await;
    assert_eq!(checkout["customer_ip_address"], "203.0.113.7");
    assert_eq!(checkout["embed_origin"], "https://app.example.com");
    let pro = simulator.product_id(Product::Pro).unwrap();
    for (key, value) in [
        ("customer_ip_address", "nowhere"),
        ("success_url", "/relative"),
    ] {
        let refused = api
            .post("/v1/checkouts/", json!({"products": [pro], key: value}))
            .await;
        refused.finds_invalid(key);
    }
}
