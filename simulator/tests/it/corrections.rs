//! The real server differs from what one would think of it in many measured ways. Each that a simulator can show is a test
//! here, or in `races.rs`, `limits.rs`, `deliveries.rs`, `lives.rs`, `by_hand.rs`, `outages.rs` or `replay.rs`.

use crate::common;
use crate::common::{Api, Receiver, TIMEOUT, start, start_with_acme};
use chrono::TimeDelta;
use serde_json::{Value, json};
use simulator::{Options, Product, Simulator};

async fn begin() -> (Simulator, Api, Receiver) {
    start_with_acme(Options::default()).await
}

async fn all_delivered(simulator: &Simulator) {
    assert!(simulator.deliveries_finished(TIMEOUT).await);
}

#[tokio::test]
async fn an_address_without_a_mail_service_is_refused_for_good() {
    let (_simulator, api, _receiver) = begin().await;
    for address in [
        "a@undeliverable.test",
        "a@undeliverable.example",
        "a@some.Undeliverable.example",
    ] {
        let owner = json!({"email": address, "external_id": "o"});
        let body = json!({"type": "team", "name": "B", "external_id": "b", "owner": owner});
        let refused = api.post("/v1/customers/", body).await;
        assert_eq!(refused.status, 422);
        assert_eq!(refused.body["error"], "RequestValidationError");
        assert_eq!(
            refused.body["detail"][0]["loc"],
            json!(["body", "team", "owner", "email"])
        );
        assert_eq!(refused.body["detail"][0]["type"], "value_error");
        let member = api
            .post(
                "/v1/customers/external/acme/members",
                json!({"email": address}),
            )
            .await;
        member.finds_invalid("email");
    }
}

#[tokio::test]
async fn after_an_anonymizing_deletion_everything_still_carries_the_external_id_and_the_owners_name()
 {
    let (simulator, api, receiver) = begin().await;
    simulator.purchase("acme", Product::Pro).await.unwrap();
    all_delivered(&simulator).await;
    receiver.clear();
    assert_eq!(
        api.delete("/v1/customers/external/acme?anonymize=true")
            .await
            .status,
        204
    );
    all_delivered(&simulator).await;
    for kind in [
        "benefit_grant.revoked",
        "subscription.updated",
        "subscription.canceled",
        "subscription.revoked",
    ] {
        let customer = &receiver.of_type(kind)[0].body["data"]["customer"];
        assert_eq!(
            (
                &customer["external_id"],
                &customer["metadata"]["__external_id"]
            ),
            (&json!("acme"), &json!("acme"))
        );
        assert_eq!(customer["name"].as_str().unwrap().len(), 64, "hashed");
    }
    let deleted = &receiver.of_type("customer.deleted")[0].body["data"];
    assert_eq!(deleted["external_id"], "acme");
    assert!(deleted["metadata"]["__anonymized_at"].is_string());
    let member = &receiver.of_type("benefit_grant.revoked")[0].body["data"]["member"];
    assert_eq!(
        (&member["name"], &member["email"]),
        (&json!("Owner"), &json!("acme@example.com"))
    );
}

#[tokio::test]
async fn after_a_plain_deletion_the_external_id_is_null_and_nowhere_else() {
    let (simulator, api, receiver) = begin().await;
    simulator.purchase("acme", Product::Pro).await.unwrap();
    all_delivered(&simulator).await;
    receiver.clear();
    assert_eq!(api.delete("/v1/customers/external/acme").await.status, 204);
    all_delivered(&simulator).await;
    let grant = &receiver.of_type("benefit_grant.revoked")[0].body["data"]["customer"];
    let deleted = &receiver.of_type("customer.deleted")[0].body["data"];
    for customer in [grant, deleted] {
        assert_eq!(customer["external_id"], Value::Null);
        assert!(customer["metadata"].get("__external_id").is_none());
        assert_eq!(customer["name"], "Acme");
    }
    assert_eq!(
        api.create_customer("acme").await.status,
        201,
        "the same external id can be used again"
    );
}

#[tokio::test]
async fn an_existing_address_answers_201_unchanged_and_a_taken_id_answers_500() {
    let (_simulator, api, _receiver) = begin().await;
    let path = "/v1/customers/external/acme/members";
    let first = api
        .post(
            path,
            json!({"email": "Mia@example.com", "name": "Mia", "external_id": "mia"}),
        )
        .await;
    let second = json!({"email": "mia@EXAMPLE.com", "name": "X", "external_id": "x", "role": "billing_manager"});
    let second = api.post(path, second).await;
    assert_eq!((second.status, &second.body), (201, &first.body));
    for _ in 0..2 {
        let clash = api
            .post(
                path,
                json!({"email": "other@example.com", "external_id": "mia"}),
            )
            .await;
        assert_eq!(
            (clash.status, &clash.body),
            (500, &json!("Internal Server Error"))
        );
    }
    let patched = api
        .patch(
            &format!("{path}/mia"),
            json!({"email": "other@example.com"}),
        )
        .await;
    patched.has(200, "email", "other@example.com");
}

#[tokio::test]
async fn an_owner_without_external_id_gets_the_customers() {
    let (simulator, api, _receiver) = begin().await;
    let body = json!({"type": "team", "name": "B", "external_id": "b", "owner": {"email": "o@example.com"}});
    assert_eq!(api.post("/v1/customers/", body).await.status, 201);
    assert_eq!(simulator.members("b")[0].external_id.as_deref(), Some("b"));
}

#[tokio::test]
async fn a_customer_is_described_as_it_is_when_the_delivery_is_built() {
    let simulator = start(Options {
        webhook_url: None,
        ..Options::default()
    })
    .await;
    let api = Api::of(&simulator);
    // The first delivery of the line finds nobody; meanwhile the customer goes.
    let slow = tokio::net::TcpListener::bind(common::loopback())
        .await
        .unwrap();
    simulator.set_webhook_url(Some(format!("http://{}/", slow.local_addr().unwrap())));
    assert_eq!(api.create_customer("acme").await.status, 201);
    let (held, _) = slow.accept().await.unwrap();
    assert_eq!(
        api.delete("/v1/customers/external/acme?anonymize=true")
            .await
            .status,
        204
    );
    let (receiver, url) = Receiver::start(&[]).await;
    simulator.set_webhook_url(Some(url));
    drop(held);
    let deadline = tokio::time::Instant::now() + TIMEOUT;
    while receiver.of_type("customer.created").is_empty() && tokio::time::Instant::now() < deadline
    {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    let created = &receiver.of_type("customer.created")[0].body["data"];
    assert!(
        created["deleted_at"].is_string() && created["name"] != "Acme",
        "{created}"
    );
    assert!(!simulator.deliveries()[0].attempts.is_empty());
}

#[tokio::test]
async fn pages_are_cut_to_a_hundred_and_end_quietly() {
    let (_simulator, api, _receiver) = begin().await;
    for number in 0..104 {
        let member = json!({"email": format!("m{number}@example.com")});
        assert_eq!(
            api.post("/v1/customers/external/acme/members", member)
                .await
                .status,
            201
        );
    }
    let all = api.get("/v1/members/?limit=500").await.body;
    assert_eq!(all["items"].as_array().unwrap().len(), 100);
    assert_eq!(
        all["pagination"],
        json!({"total_count": 105, "max_page": 2})
    );
    let beyond = api.get("/v1/members/?limit=500&page=9").await.body;
    assert_eq!(
        (&beyond["items"], &beyond["pagination"]),
        (&json!([]), &all["pagination"])
    );
    assert_eq!(api.get("/v1/members/?limit=0").await.status, 422);
}

#[tokio::test]
async fn of_a_repeated_role_the_last_counts_and_statuses_add_up() {
    let (simulator, api, _receiver) = begin().await;
    let roles = api
        .get("/v1/members/?external_customer_id=acme&role=owner&role=billing_manager")
        .await;
    assert_eq!(roles.body["items"], json!([]));
    simulator.purchase("acme", Product::Pro).await.unwrap();
    let query = "/v1/subscriptions/?external_customer_id=acme&status=trialing&status=active&status=past_due&limit=1";
    assert_eq!(
        api.get(query).await.body["items"].as_array().unwrap().len(),
        1
    );
    assert_eq!(
        api.get("/v1/subscriptions/?status=trialing,active")
            .await
            .status,
        422
    );
}

#[tokio::test]
async fn the_index_of_a_bad_event_is_named_and_nothing_is_stored() {
    let (simulator, api, _receiver) = begin().await;
    let good = json!({"name": "u", "external_customer_id": "acme", "external_id": "1", "metadata": {"count": 1}});
    let bad = json!({"name": "u", "external_customer_id": "acme", "external_id": "2", "metadata": {"count": null}});
    let refused = api.ingest(json!([good, bad])).await;
    assert_eq!(refused.status, 422);
    let entries = refused.body["detail"].as_array().unwrap();
    assert!(
        entries.iter().all(|entry| entry["loc"][2] == 1),
        "{entries:#?}"
    );
    assert!(
        entries
            .iter()
            .any(|entry| entry["loc"].as_array().unwrap().last().unwrap() == "customer_id")
    );
    assert!(simulator.events().is_empty());
    assert_eq!(
        api.ingest(json!([good])).await.body,
        json!({"inserted": 1, "duplicates": 0})
    );
}

#[tokio::test]
async fn children_find_their_parent_in_any_order() {
    let (simulator, api, _receiver) = begin().await;
    let event = |id: &str| json!({"name": "n", "external_customer_id": "acme", "external_id": id});
    let mut child = event("child");
    child["parent_id"] = json!("root");
    assert_eq!(api.ingest(json!([child])).await.status, 200);
    assert!(!simulator.events()[0].parent_known);
    assert_eq!(api.ingest(json!([event("root")])).await.status, 200);
    assert!(simulator.events()[0].parent_known);
}

#[tokio::test]
async fn amounts_are_kept_as_binary_numbers_and_may_be_negative() {
    let (simulator, api, _receiver) = begin().await;
    for (index, amount) in [
        json!("99999.999999999999"),
        json!("-1"),
        json!("1e-6"),
        json!(3),
    ]
    .into_iter()
    .enumerate()
    {
        let metadata = json!({"_cost": {"amount": amount, "currency": "usd"}});
        let event = json!({"name": "c", "external_customer_id": "acme", "external_id": format!("{index}"), "metadata": metadata});
        assert_eq!(api.ingest(json!([event])).await.status, 200);
    }
    assert_eq!(
        simulator.events()[0].metadata["_cost"]["amount"],
        json!(100_000.0)
    );
}

#[tokio::test]
async fn a_second_in_the_future_is_too_much_and_the_clock_can_catch_up() {
    let (simulator, api, _receiver) = begin().await;
    let moment = simulator.clock() + TimeDelta::seconds(30);
    let event = json!({"name": "u", "external_customer_id": "acme", "timestamp": moment});
    assert_eq!(api.ingest(json!([event])).await.status, 422);
    simulator.advance(TimeDelta::seconds(30)).await;
    assert_eq!(api.ingest(json!([event])).await.status, 200);
}

async fn discount(api: &Api) -> String {
    let body = json!({"name": "Startup Program: Acme", "type": "percentage", "basis_points": 10_000,
                      "duration": "repeating", "duration_in_months": 12, "max_redemptions": 1});
    api.post("/v1/discounts/", body).await.body["id"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn a_discount_beside_a_change_at_the_period_end_waits_with_it() {
    let (simulator, api, _receiver) = begin().await;
    let id = simulator.purchase("acme", Product::Pro).await.unwrap();
    let (scale, discount) = (
        simulator.product_id(Product::Scale).unwrap(),
        discount(&api).await,
    );
    let body =
        json!({"product_id": scale, "discount_id": discount, "proration_behavior": "next_period"});
    let changed = api.patch(&format!("/v1/subscriptions/{id}"), body).await;
    assert_eq!(
        (
            changed.status,
            &changed.body["discount_id"],
            &changed.body["amount"]
        ),
        (200, &Value::Null, &json!(2000))
    );
    assert_eq!(changed.body["pending_update"]["product_id"], json!(scale));
    simulator.advance(TimeDelta::days(32)).await;
    let record = &simulator.subscriptions("acme")[0];
    assert_eq!((record.product.as_str(), record.amount), ("Scale", 0));
    assert_eq!(
        simulator
            .grants("acme")
            .iter()
            .filter(|grant| grant.is_granted)
            .count(),
        4
    );
}

#[tokio::test]
async fn a_discount_is_redeemed_once_even_after_it_was_cleared() {
    let (simulator, api, _receiver) = begin().await;
    let id = simulator.purchase("acme", Product::Pro).await.unwrap();
    let (path, discount) = (format!("/v1/subscriptions/{id}"), discount(&api).await);
    let set = async |discount: Value| {
        let answer = api.patch(&path, json!({"discount_id": discount})).await;
        (answer.status, answer.body["amount"].as_i64())
    };
    assert_eq!(set(json!(discount)).await, (200, Some(0)));
    assert_eq!(set(json!(discount)).await.0, 422);
    assert_eq!(set(Value::Null).await, (200, Some(2000)));
    assert_eq!(set(json!(discount)).await.0, 422);
    assert_eq!(
        api.get(&format!("/v1/discounts/{discount}")).await.body["redemptions_count"],
        1
    );
}

#[tokio::test]
async fn unpaid_and_paused_subscriptions_refuse_with_the_name_measured() {
    let (simulator, api, _receiver) = begin().await;
    let id = simulator.purchase("acme", Product::Pro).await.unwrap();
    let (path, growth) = (
        format!("/v1/subscriptions/{id}"),
        simulator.product_id(Product::Growth).unwrap(),
    );
    let change = json!({"product_id": growth, "proration_behavior": "next_period"});
    simulator.pause("acme").await.unwrap();
    assert_eq!(api.patch(&path, change.clone()).await.status, 200);
    let refused = api
        .patch(&path, json!({"cancel_at_period_end": true}))
        .await;
    refused.has(403, "error", "AlreadyCanceledSubscription");
    simulator.resume("acme").await.unwrap();
    simulator.fail_payment("acme").await.unwrap();
    simulator
        .step("acme", simulator::SubscriptionStep::ExhaustDunning)
        .await
        .unwrap();
    assert_eq!(
        api.patch(&path, change).await.body["error"],
        "AlreadyCanceledSubscription"
    );
}

#[tokio::test]
async fn taking_back_nothing_is_a_bad_request_and_an_empty_change_is_none() {
    let (simulator, api, _receiver) = begin().await;
    let path = format!(
        "/v1/subscriptions/{}",
        simulator.purchase("acme", Product::Pro).await.unwrap()
    );
    let refused = api
        .patch(&path, json!({"cancel_at_period_end": false}))
        .await;
    assert_eq!(
        (refused.status, &refused.body),
        (
            400,
            &json!({"error": "BadRequest", "detail": "Bad request"})
        )
    );
    assert_eq!(api.patch(&path, json!({})).await.status, 200);
}

#[tokio::test]
async fn without_a_card_a_dearer_plan_is_402_and_a_pending_change_survives() {
    let (simulator, api, _receiver) = begin().await;
    let path = format!(
        "/v1/subscriptions/{}",
        simulator.purchase("acme", Product::Growth).await.unwrap()
    );
    let (pro, scale) = (
        simulator.product_id(Product::Pro),
        simulator.product_id(Product::Scale),
    );
    api.patch(
        &path,
        json!({"product_id": pro, "proration_behavior": "next_period"}),
    )
    .await;
    simulator
        .set_billing_details("acme", Value::Null, false)
        .await
        .unwrap();
    let refused = api
        .patch(
            &path,
            json!({"product_id": scale, "proration_behavior": "invoice"}),
        )
        .await;
    refused.has(402, "error", "PaymentFailed");
    let after = api.get(&path).await.body;
    assert_eq!(after["pending_update"]["product_id"], json!(pro));
    assert_eq!(simulator.orders("acme").len(), 1, "no order is left behind");
}

#[tokio::test]
async fn an_invoice_is_made_once_announced_and_linked_for_ten_minutes() {
    let (simulator, api, receiver) = begin().await;
    simulator.purchase("acme", Product::Pro).await.unwrap();
    let order = simulator.orders("acme")[0].id;
    let path = format!("/v1/orders/{order}/invoice");
    let early = api.get(&path).await;
    early.has(404, "error", "InvoiceDoesNotExist");
    assert_eq!(api.post(&path, Value::Null).await.body, Value::Null);
    simulator.advance(TimeDelta::seconds(1)).await;
    all_delivered(&simulator).await;
    let sent = receiver.of_type("order.updated");
    assert!(
        sent.iter()
            .any(|one| one.body["data"]["is_invoice_generated"] == true)
    );
    assert_eq!(api.post(&path, Value::Null).await.status, 202);
    let url = api.get(&path).await.body["url"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(url.contains("X-Amz-Expires=600") && url.contains("Invoice-SELF-0001.pdf"));
    let document = api.client.get(&url).send().await.unwrap();
    assert_eq!(document.headers()["content-type"], "application/pdf");
    assert!(document.bytes().await.unwrap().starts_with(b"%PDF-"));
    simulator.advance(TimeDelta::seconds(601)).await;
    assert_eq!(api.client.get(&url).send().await.unwrap().status(), 403);
}

#[tokio::test]
async fn an_immediate_revoke_voids_pending_orders() {
    let (simulator, api, receiver) = begin().await;
    let id = simulator.purchase("acme", Product::Pro).await.unwrap();
    simulator.fail_payment("acme").await.unwrap();
    all_delivered(&simulator).await;
    receiver.clear();
    assert_eq!(
        api.delete(&format!("/v1/subscriptions/{id}")).await.status,
        200
    );
    all_delivered(&simulator).await;
    assert_eq!(simulator.orders("acme")[1].status, "void");
    assert_eq!(
        receiver.of_type("order.updated")[0].body["data"]["status"],
        "void"
    );
    let about: Vec<String> = receiver
        .types()
        .into_iter()
        .filter(|kind| kind.starts_with("subscription."))
        .collect();
    assert_eq!(
        about,
        [
            "subscription.updated",
            "subscription.canceled",
            "subscription.revoked"
        ]
    );
}

#[tokio::test]
async fn a_bad_token_wins_over_an_unknown_path_and_an_unknown_version_shows_by_its_missing_header()
{
    let (simulator, api, _receiver) = begin().await;
    simulator.revoke_token("polar_oat_simulator");
    let refused = api.get("/v1/nope").await;
    refused.has(401, "error", "invalid_token");
    simulator.restore_token("polar_oat_simulator");
    let nowhere = api.get("/v1/nope").await;
    assert_eq!(
        (
            nowhere.status,
            nowhere.headers.contains_key("polar-version")
        ),
        (404, true)
    );
}

#[tokio::test]
async fn two_subscriptions_give_two_grants_of_one_benefit() {
    let (simulator, api, _receiver) = begin().await;
    simulator.purchase("acme", Product::Pro).await.unwrap();
    simulator.purchase("acme", Product::Pro).await.unwrap();
    let listed = api
        .get("/v1/benefit-grants/?external_customer_id=acme&is_granted=true&limit=100")
        .await
        .body;
    let benefit = simulator
        .benefit_id(Product::Pro, "transaction_fee")
        .unwrap();
    let same = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|grant| grant["benefit_id"] == json!(benefit));
    assert_eq!(same.count(), 2);
}

#[tokio::test]
async fn external_ids_keep_their_case() {
    let (_simulator, api, _receiver) = begin().await;
    assert_eq!(api.get("/v1/customers/external/ACME").await.status, 404);
    let ignored = api
        .patch("/v1/customers/external/acme", json!({"external_id": "b"}))
        .await;
    ignored.has(200, "external_id", "acme");
}

#[tokio::test]
async fn a_new_owner_is_announced_and_the_old_one_is_not() {
    let (simulator, api, receiver) = begin().await;
    let path = "/v1/customers/external/acme/members";
    api.post(
        path,
        json!({"email": "mia@example.com", "external_id": "mia"}),
    )
    .await;
    all_delivered(&simulator).await;
    receiver.clear();
    assert_eq!(
        api.patch(&format!("{path}/mia"), json!({"role": "owner"}))
            .await
            .status,
        200
    );
    assert_eq!(
        api.patch(&format!("{path}/mia"), json!({"role": "owner"}))
            .await
            .status,
        200
    );
    all_delivered(&simulator).await;
    let sent = receiver.of_type("member.updated");
    assert_eq!(
        (sent.len(), &sent[0].body["data"]["external_id"]),
        (1, &json!("mia"))
    );
    let roles: Vec<String> = simulator
        .members("acme")
        .into_iter()
        .map(|member| member.role)
        .collect();
    assert_eq!(roles, ["billing_manager", "owner"]);
}
