//! Somebody else acts while a request of ours is on its way: each race is lost or won on purpose.

use crate::common::{Api, start};
use serde_json::{Value, json};
use simulator::{Intervention, Options, RequestMatch, Simulator};

const MEMBERS: &str = "/v1/customers/external/acme/members";

async fn begin() -> (Simulator, Api) {
    let simulator = start(Options::default()).await;
    let api = Api::of(&simulator);
    (simulator, api)
}

fn customer(name: &str) -> Value {
    let owner = json!({"email": "o@example.com", "external_id": "olga"});
    json!({"type": "team", "name": name, "external_id": "acme", "owner": owner})
}

fn creation(body: Value) -> Intervention {
    Intervention::call("POST", "/v1/customers/", body)
}

#[tokio::test]
async fn a_customer_made_by_somebody_else_in_between_is_refused_to_us() {
    let (simulator, api) = begin().await;
    let ours = RequestMatch::path("/v1/customers/").method("POST");
    let theirs = simulator.arm(ours, creation(customer("Theirs")));
    assert_eq!(theirs.status(), None, "not yet");
    let answer = api.post("/v1/customers/", customer("Ours")).await;
    assert_eq!(theirs.status(), Some(201));
    assert_eq!(answer.status, 422);
    assert_eq!(
        answer.body["detail"][0]["loc"],
        json!(["body", "external_id"])
    );
    let name = simulator.customer("acme").unwrap().name;
    assert_eq!(name.as_deref(), Some("Theirs"));
    assert_eq!(simulator.requests().len(), 1, "only ours are recorded");
}

#[tokio::test]
async fn a_customer_made_by_somebody_else_after_ours_is_refused_to_them() {
    let (simulator, api) = begin().await;
    let ours = RequestMatch::path("/v1/customers/").method("POST");
    let theirs = simulator.arm(ours.after_commit(), creation(customer("Theirs")));
    assert_eq!(
        api.post("/v1/customers/", customer("Ours")).await.status,
        201
    );
    assert_eq!(theirs.status(), Some(422));
}

#[tokio::test]
async fn a_customer_made_between_our_look_and_our_creation_is_found_by_the_creation() {
    let (simulator, api) = begin().await;
    let look = RequestMatch::path("/external/acme").method("GET");
    let theirs = simulator.arm(look.after_commit(), creation(customer("Theirs")));
    assert_eq!(api.get("/v1/customers/external/acme").await.status, 404);
    assert_eq!(theirs.status(), Some(201));
    assert_eq!(
        api.post("/v1/customers/", customer("Ours")).await.status,
        422
    );
}

#[tokio::test]
async fn the_same_member_made_by_somebody_else_fails_ours_only_where_it_raced() {
    let mia = json!({"email": "mia@example.com", "external_id": "mia"});
    for (raced, status) in [(true, 500), (false, 201)] {
        let (simulator, api) = begin().await;
        api.post("/v1/customers/", customer("Acme")).await;
        let ours = RequestMatch::path("/members").method("POST");
        let ours = if raced { ours } else { ours.on_arrival() };
        let theirs = simulator.arm(ours, Intervention::call("POST", MEMBERS, mia.clone()));
        assert_eq!(api.post(MEMBERS, mia.clone()).await.status, status);
        assert_eq!(theirs.status(), Some(201));
        assert_eq!(api.post(MEMBERS, mia.clone()).await.status, 201);
        assert_eq!(simulator.members("acme").len(), 2);
    }
}

#[tokio::test]
async fn an_address_taken_by_somebody_else_in_between_is_refused_to_us() {
    let (simulator, api) = begin().await;
    api.post("/v1/customers/", customer("Acme")).await;
    let ada = json!({"email": "ada@example.com", "external_id": "ada"});
    api.post(MEMBERS, ada).await;
    let bob = json!({"email": "new@example.com", "external_id": "bob"});
    let ours = RequestMatch::path("/members/ada").method("PATCH");
    let theirs = simulator.arm(ours, Intervention::call("POST", MEMBERS, bob));
    let path = format!("{MEMBERS}/ada");
    let refused = api.patch(&path, json!({"email": "new@example.com"})).await;
    assert_eq!((refused.status, theirs.status()), (422, Some(201)));
    assert_eq!(refused.body["detail"][0]["loc"], json!(["body", "email"]));
}

#[tokio::test]
async fn an_intervention_of_the_control_surface_happens_once_and_only_for_what_it_matches() {
    let (simulator, api) = begin().await;
    api.post("/v1/customers/", customer("Acme")).await;
    let grants = RequestMatch::path("/v1/benefit-grants/").method("GET");
    let purchase = json!({"external_customer_id": "acme", "product": "pro"});
    let purchase = Intervention::call("POST", "/simulator/purchase", purchase);
    let bought = simulator.arm(grants.on_arrival(), purchase);
    assert_eq!(api.get("/v1/members/").await.status, 200);
    assert_eq!(bought.status(), None);
    for _ in 0..2 {
        let listed = api
            .get("/v1/benefit-grants/?external_customer_id=acme")
            .await;
        assert_eq!(listed.body["pagination"]["total_count"], 2);
    }
    assert_eq!(bought.status(), Some(200));
    assert_eq!(simulator.subscriptions("acme").len(), 1);
}
