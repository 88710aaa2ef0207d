//! A simulator in a process of its own is steered and looked into over HTTP.

use crate::common::{Api, Receiver, TIMEOUT, start};
use serde_json::{Value, json};
use simulator::{Options, Product};

#[tokio::test]
async fn a_whole_scenario_can_be_played_over_http() {
    let simulator = start(Options::default()).await;
    let api = Api::of(&simulator);
    let (receiver, url) = Receiver::start(&[]).await;
    let secret = "correct horse battery staple, rotated";
    assert_eq!(
        api.post("/simulator/webhook", json!({"url": url, "secret": secret}))
            .await
            .status,
        200
    );
    assert_eq!(api.create_customer("acme").await.status, 201);
    let bought = api
        .post(
            "/simulator/purchase",
            json!({"external_customer_id": "acme", "product": "pro"}),
        )
        .await;
    let id = bought.body["subscription_id"].as_str().unwrap().to_owned();
    for step in [
        "renew", "cancel", "uncancel", "past_due", "recover", "pause", "resume", "past_due",
        "unpaid", "revoke",
    ] {
        let answer = api
            .post(
                &format!("/simulator/subscriptions/{id}/{step}"),
                Value::Null,
            )
            .await;
        assert_eq!(answer.status, 200, "{step}: {}", answer.body);
    }
    let refused = api
        .post(&format!("/simulator/subscriptions/{id}/renew"), Value::Null)
        .await;
    assert_eq!(refused.status, 409);
    let benefit = simulator.benefit_id(Product::Pro, "support").unwrap();
    let metadata = json!({"metadata": {"type": "support", "level": 3}});
    assert_eq!(
        api.post(&format!("/simulator/benefits/{benefit}"), metadata)
            .await
            .status,
        200
    );
    let before = simulator.clock();
    assert_eq!(
        api.post("/simulator/advance", json!({"days": 1, "seconds": 5}))
            .await
            .status,
        200
    );
    assert!((simulator.clock() - before).num_seconds() >= 86_405);
    assert!(simulator.deliveries_finished(TIMEOUT).await);

    let state = api.get("/simulator/state").await.body;
    let customer = &state["customers"][0];
    assert_eq!(customer["external_id"], "acme");
    assert_eq!(customer["members"].as_array().unwrap().len(), 1);
    assert_eq!(customer["subscriptions"][0]["status"], "canceled");
    assert!(
        customer["grants"]
            .as_array()
            .unwrap()
            .iter()
            .all(|grant| grant["is_granted"] == false)
    );
    assert_eq!(customer["orders"].as_array().unwrap().len(), 5);
    assert_eq!(
        state["deliveries"].as_array().unwrap().len(),
        simulator.deliveries().len()
    );
    assert_eq!(state["deliveries_finished"], true);

    receiver.clear();
    let delivery = &state["deliveries"][0]["id"];
    assert_eq!(
        api.post("/simulator/deliver", json!({"id": delivery}))
            .await
            .status,
        200
    );
    assert!(simulator.deliveries_finished(TIMEOUT).await);
    assert_eq!(json!(receiver.received()[0].id), *delivery);

    let requests = api.get("/simulator/requests").await.body;
    assert_eq!(
        (&requests[0]["method"], &requests[0]["path"]),
        (&json!("POST"), &json!("/v1/customers/"))
    );
    assert_eq!(
        (requests.as_array().unwrap().len(), &requests[0]["status"]),
        (1, &json!(201))
    );
}

#[tokio::test]
async fn mistakes_are_answered_with_a_sentence() {
    let simulator = start(Options::default()).await;
    let api = Api::of(&simulator);
    let purchase = |customer: &str, product: &str| json!({"external_customer_id": customer, "product": product});
    let cases = [
        (
            "/simulator/purchase",
            purchase("nobody", "pro"),
            404,
            "nobody",
        ),
        (
            "/simulator/purchase",
            purchase("nobody", "gold"),
            422,
            "product",
        ),
        (
            "/simulator/faults",
            json!({"spec": "explode=1"}),
            422,
            "explode",
        ),
        ("/simulator/deliver", json!({"id": "x"}), 422, "UUID"),
        ("/simulator/nothing", Value::Null, 404, "lists them"),
    ];
    for (path, body, status, word) in cases {
        let answer = api.post(path, body).await;
        assert_eq!(answer.status, status, "{path}");
        assert!(
            answer.body["error"].as_str().unwrap().contains(word),
            "{}",
            answer.body
        );
    }
    assert_eq!(
        api.post("/simulator/faults", json!({"spec": "429=1"}))
            .await
            .status,
        200
    );
    assert_eq!(api.get("/v1/customers/").await.status, 429);
}

#[tokio::test]
async fn every_route_that_is_listed_is_there() {
    let simulator = start(Options::default()).await;
    let api = Api::of(&simulator);
    for route in simulator::CONTROL_ROUTES {
        let nothing = uuid::Uuid::new_v4().to_string();
        let path = route.path.replace("{step}", "renew");
        let path = ["{number}", "{external_id}", "{id}"]
            .iter()
            .fold(path, |path, place| path.replace(place, &nothing));
        let answer = api.call(route.method, &path, Value::Null).await;
        let refusal = answer.body["error"].as_str().unwrap_or_default();
        assert!(
            !refusal.contains("no such route"),
            "{} {path}",
            route.method
        );
    }
}
