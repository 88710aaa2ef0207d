//! The customer portal is called as a member: what a person may see and change, and what never shows that somebody else is
//! there.

use crate::common;
use crate::common::{Answer, Api, Receiver, TIMEOUT, start_with_acme, stopped_clock};
use crate::description::Description;
use chrono::TimeDelta;
use serde_json::{Value, json};
use simulator::{Product, Simulator};

const ME: &str = "/v1/customer-portal/customers/me";
const METHODS: &str = "/v1/customer-portal/customers/me/payment-methods";
const GRANTS: &str = "/v1/customer-portal/benefit-grants/";

/// One customer with an owner and a plain member, at a simulator whose clock stands still.
async fn begin() -> (Simulator, Api, Receiver) {
    let (simulator, api, receiver) = start_with_acme(stopped_clock()).await;
    let member = json!({"email": "m@example.com", "external_id": "acme-member"});
    let path = "/v1/customers/external/acme/members";
    assert_eq!(api.post(path, member).await.status, 201);
    (simulator, api, receiver)
}

/// The API with the token of a new session.
async fn session(api: &Api, customer: &str, member: &str) -> Api {
    let wanted = json!({"external_customer_id": customer, "external_member_id": member});
    let made = api.post("/v1/customer-sessions/", wanted).await;
    assert_eq!(made.status, 201);
    Api {
        base: api.base.clone(),
        token: made.body["token"].as_str().unwrap().to_owned(),
        client: common::client(),
    }
}

#[track_caller]
fn refused(answer: &Answer, status: u16, error: &str) {
    answer.has(status, "error", error);
}

#[tokio::test]
async fn a_session_ends_with_its_hour_with_the_membership_and_with_the_customer() {
    let (simulator, api, _receiver) = begin().await;
    let (owner, member) = (
        session(&api, "acme", "acme-owner").await,
        session(&api, "acme", "acme-member").await,
    );
    assert_eq!(member.get(ME).await.status, 200);
    let path = "/v1/customers/external/acme/members/acme-member";
    assert_eq!(api.delete(path).await.status, 204);
    refused(&member.get(ME).await, 401, "invalid_token");
    assert_eq!(owner.get(ME).await.status, 200);
    simulator.advance(TimeDelta::minutes(61)).await;
    refused(&owner.get(ME).await, 401, "invalid_token");
    let owner = session(&api, "acme", "acme-owner").await;
    api.delete("/v1/customers/external/acme").await;
    refused(&owner.get(ME).await, 401, "invalid_token");
}

#[tokio::test]
async fn payment_methods_are_listed_newest_first_in_the_described_shape() {
    let (simulator, api, _receiver) = begin().await;
    simulator.add_card("acme", "4242", false).await.unwrap();
    simulator.advance(TimeDelta::seconds(1)).await;
    simulator.add_other_payment_method("acme").await.unwrap();
    let owner = session(&api, "acme", "acme-owner").await;
    let listed = owner.get(METHODS).await;
    assert_eq!(
        Description::load().answer("GET", METHODS, 200, &listed.body),
        Some(Vec::new())
    );
    let items = listed.body["items"].as_array().unwrap();
    assert_eq!((items.len(), &items[0]["type"]), (2, &json!("link")));
    assert_eq!(items[1]["method_metadata"]["last4"], "4242");
    assert_eq!(
        owner.get(ME).await.body["default_payment_method_id"],
        items[1]["id"],
        "the first one is the default"
    );
}

#[tokio::test]
async fn a_payment_method_in_use_goes_only_when_another_takes_its_place() {
    let (simulator, api, _receiver) = begin().await;
    simulator.purchase("acme", Product::Pro).await.unwrap();
    let owner = session(&api, "acme", "acme-owner").await;
    let first = owner.get(METHODS).await.body["items"][0]["id"].clone();
    let path = |id: &Value| format!("{METHODS}/{}", id.as_str().unwrap());
    let error = "PaymentMethodInUseByActiveSubscription";
    refused(&owner.delete(&path(&first)).await, 400, error);
    let second = json!(simulator.add_card("acme", "1881", false).await.unwrap());
    assert_eq!(owner.delete(&path(&first)).await.status, 204);
    refused(&owner.delete(&path(&first)).await, 404, "ResourceNotFound");
    assert_eq!(
        owner.get(ME).await.body["default_payment_method_id"],
        second
    );
    refused(&owner.delete(&path(&second)).await, 400, error);
    simulator.revoke("acme").await.unwrap();
    assert_eq!(owner.delete(&path(&second)).await.status, 204);
}

#[tokio::test]
async fn another_customers_payment_methods_and_grants_are_not_there() {
    let (simulator, api, _receiver) = begin().await;
    assert_eq!(api.create_customer("globex").await.status, 201);
    simulator.add_slack_benefit(Product::Pro).await.unwrap();
    simulator.purchase("acme", Product::Pro).await.unwrap();
    let card = simulator.add_card("acme", "4242", false).await.unwrap();
    let grant = simulator.grants("acme")[2].id;
    let stranger = session(&api, "globex", "globex-owner").await;
    let gone = stranger.delete(&format!("{METHODS}/{card}")).await;
    refused(&gone, 404, "ResourceNotFound");
    let default = json!({"default_payment_method_id": card});
    let answer = stranger.patch(ME, default).await;
    assert_eq!(answer.body["detail"][0]["msg"], "Payment method not found.");
    let invite = json!({"benefit_type": "slack_shared_channel", "properties": {"invited_email": "a@example.com"}});
    let path = format!("{GRANTS}{grant}");
    refused(
        &stranger.patch(&path, invite.clone()).await,
        404,
        "ResourceNotFound",
    );
    assert_eq!(stranger.get(GRANTS).await.body["items"], json!([]));
    let colleague = session(&api, "acme", "acme-member").await;
    refused(
        &colleague.patch(&path, invite).await,
        404,
        "ResourceNotFound",
    );
    assert_eq!(
        colleague.get(GRANTS).await.body["items"],
        json!([]),
        "grants of a team are the owner's"
    );
}

#[tokio::test]
async fn a_shared_channel_is_invited_to_made_and_connected() {
    let (simulator, api, receiver) = begin().await;
    let benefit = simulator.add_slack_benefit(Product::Scale).await.unwrap();
    simulator.purchase("acme", Product::Scale).await.unwrap();
    let owner = session(&api, "acme", "acme-owner").await;
    let list = format!("{GRANTS}?type=slack_shared_channel&limit=100");
    let listed = owner.get(&list).await;
    assert_eq!(
        Description::load().answer("GET", GRANTS, 200, &listed.body),
        Some(Vec::new())
    );
    assert_eq!(listed.body["items"].as_array().unwrap().len(), 1);
    let item = listed.body["items"][0].clone();
    assert_eq!(
        (&item["benefit_id"], &item["properties"]),
        (&json!(benefit), &json!({}))
    );
    let path = format!("{GRANTS}{}", item["id"].as_str().unwrap());
    let invite = |email: &str| json!({"benefit_type": "slack_shared_channel", "properties": {"invited_email": email}});
    let invited = owner.patch(&path, invite("ada@example.com")).await;
    assert_eq!(
        Description::load().answer("PATCH", &path, 200, &invited.body),
        Some(Vec::new())
    );
    assert_eq!(
        invited.body["properties"],
        json!({"invited_email": "ada@example.com"})
    );
    simulator.advance(TimeDelta::seconds(1)).await;
    let properties = owner.get(&list).await.body["items"][0]["properties"].clone();
    assert!(properties["invite_url"].is_string(), "{properties}");
    assert!(
        properties.get("connected_team_id").is_none(),
        "{properties}"
    );
    let grant = item["id"].as_str().unwrap().parse().unwrap();
    simulator.connect_slack(grant).await.unwrap();
    let properties = owner.get(&list).await.body["items"][0]["properties"].clone();
    assert!(properties["connected_team_id"].is_string(), "{properties}");
    let again = owner.patch(&path, invite("grace@example.com")).await;
    assert!(again.body["properties"].get("invite_url").is_none());
    assert!(simulator.deliveries_finished(TIMEOUT).await);
    let sent = receiver.of_type("benefit_grant.updated");
    assert_eq!(sent.len(), 3, "two invitations and a connection");
    let objections = Description::load().delivery("benefit_grant.updated", &sent[0].body);
    assert_eq!(objections, Some(Vec::new()));
}

#[tokio::test]
async fn a_grant_refuses_what_does_not_fit_its_kind() {
    let (simulator, api, _receiver) = begin().await;
    simulator.add_slack_benefit(Product::Pro).await.unwrap();
    simulator.purchase("acme", Product::Pro).await.unwrap();
    let owner = session(&api, "acme", "acme-owner").await;
    let listed = owner
        .get(&format!("{GRANTS}?type=slack_shared_channel"))
        .await;
    let path = format!(
        "{GRANTS}{}",
        listed.body["items"][0]["id"].as_str().unwrap()
    );
    let kind =
        |kind: &str| json!({"benefit_type": kind, "properties": {"invited_email": "nobody"}});
    let malformed = owner.patch(&path, kind("slack_shared_channel")).await;
    refused(&malformed, 422, "RequestValidationError");
    let loc = json!([
        "body",
        "slack_shared_channel",
        "properties",
        "invited_email"
    ]);
    assert_eq!(malformed.body["detail"][0]["loc"], loc);
    refused(
        &owner.patch(&path, kind("custom")).await,
        422,
        "PolarRequestValidationError",
    );
    refused(
        &owner.patch(&path, json!({})).await,
        422,
        "RequestValidationError",
    );
}

#[tokio::test]
async fn a_tax_id_needs_a_country_and_null_clears_it() {
    let (_simulator, api, _receiver) = begin().await;
    let owner = session(&api, "acme", "acme-owner").await;
    let early = owner.patch(ME, json!({"tax_id": "DE123456789"})).await;
    assert_eq!(
        early.body["detail"][0]["loc"],
        json!(["body", "billing_address"])
    );
    let address = json!({"country": "DE", "city": "Berlin", "line1": "1", "postal_code": "10115"});
    let both = owner
        .patch(
            ME,
            json!({"billing_address": address, "tax_id": "DE123456789"}),
        )
        .await;
    assert_eq!(both.body["tax_id"], json!(["DE123456789", "eu_vat"]));
    let named = owner.patch(ME, json!({"billing_name": "Acme GmbH"})).await;
    assert_eq!(named.body["tax_id"], json!(["DE123456789", "eu_vat"]));
    let cleared = owner.patch(ME, json!({"tax_id": null})).await;
    cleared.has(200, "tax_id", Value::Null);
    assert_eq!(cleared.body["billing_name"], "Acme GmbH");
}

#[tokio::test]
async fn a_new_default_card_pays_what_is_owed() {
    let (simulator, api, receiver) = begin().await;
    simulator.add_card("acme", "0341", true).await.unwrap();
    simulator.purchase("acme", Product::Pro).await.unwrap();
    simulator.advance(TimeDelta::days(31)).await;
    assert_eq!(simulator.subscriptions("acme")[0].status, "past_due");
    let good = simulator.add_card("acme", "4242", false).await.unwrap();
    let owner = session(&api, "acme", "acme-owner").await;
    let set = owner
        .patch(ME, json!({"default_payment_method_id": good}))
        .await;
    assert_eq!(set.body["default_payment_method_id"], json!(good));
    assert_eq!(simulator.subscriptions("acme")[0].status, "active");
    assert!(
        simulator
            .orders("acme")
            .iter()
            .all(|order| order.status == "paid")
    );
    assert!(simulator.deliveries_finished(TIMEOUT).await);
    assert_eq!(receiver.of_type("subscription.past_due").len(), 1);
}
