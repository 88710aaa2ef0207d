//! People make customers and members by hand, in the dashboard or with a script, and not as the application would.

use crate::common::{Api, Receiver, TIMEOUT, start};
use serde_json::{Value, json};
use simulator::{Options, Product, Simulator};

async fn begin() -> (Simulator, Api, Receiver) {
    let (receiver, url) = Receiver::start(&[]).await;
    let options = Options {
        webhook_url: Some(url),
        ..Options::default()
    };
    let simulator = start(options).await;
    let api = Api::of(&simulator);
    (simulator, api, receiver)
}

async fn make(api: &Api, body: Value) -> String {
    let made = api.post("/v1/customers/", body).await;
    assert_eq!(made.status, 201, "{}", made.body);
    made.body["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_owner_without_id_and_name_has_those_of_the_customer() {
    let (simulator, api, _receiver) = begin().await;
    let owner = json!({"email": "o@example.com"});
    let body = json!({"type": "team", "name": "Acme", "external_id": "acme", "owner": owner});
    make(&api, body).await;
    let member = &simulator.members("acme")[0];
    assert_eq!(member.external_id.as_deref(), Some("acme"));
    assert_eq!(member.name.as_deref(), Some("Acme"));
}

#[tokio::test]
async fn a_customer_with_our_owners_address_and_no_external_id_can_be_given_one_once() {
    let (simulator, api, _receiver) = begin().await;
    let body = json!({"type": "team", "name": "Acme", "owner": {"email": "owner@example.com"}});
    let id = make(&api, body).await;
    assert_eq!(simulator.customer("acme"), None);
    let path = format!("/v1/customers/{id}");
    let given = api.patch(&path, json!({"external_id": "acme"})).await;
    given.has(200, "external_id", "acme");
    let other = api.patch(&path, json!({"external_id": "other"})).await;
    assert_eq!(other.status, 422);
    assert_eq!(
        other.body["detail"][0]["loc"],
        json!(["body", "external_id"])
    );
    assert_eq!(simulator.customer("acme").unwrap().id.to_string(), id);
    assert_eq!(simulator.members("acme")[0].external_id, None);
}

#[tokio::test]
async fn an_external_id_that_another_customer_has_is_refused_to_a_customer_without_one() {
    let (_simulator, api, _receiver) = begin().await;
    api.create_customer("acme").await;
    let body = json!({"type": "team", "name": "Copy", "owner": {"email": "owner@example.com"}});
    let id = make(&api, body).await;
    let path = format!("/v1/customers/{id}");
    let refused = api.patch(&path, json!({"external_id": "acme"})).await;
    assert_eq!(refused.status, 422);
    let message = "A customer with this external ID already exists.";
    assert_eq!(refused.body["detail"][0]["msg"], message);
}

#[tokio::test]
async fn an_individual_customer_takes_members_once_it_is_made_a_team_by_its_id() {
    let (simulator, api, _receiver) = begin().await;
    let body = json!({"type": "individual", "name": "Ida", "external_id": "ida", "email": "i@example.com"});
    let id = make(&api, body).await;
    let members = "/v1/customers/external/ida/members";
    let member = json!({"email": "m@example.com", "external_id": "mia"});
    let refused = api.post(members, member.clone()).await;
    refused.has(403, "error", "NotPermitted");
    let ignored = api.patch("/v1/customers/external/ida", json!({"type": "team"}));
    assert_eq!(ignored.await.body["type"], "individual");
    let path = format!("/v1/customers/{id}");
    let team = api.patch(&path, json!({"type": "team"})).await;
    team.has(200, "type", "team");
    assert_eq!(api.post(members, member).await.status, 201);
    assert_eq!(simulator.members("ida").len(), 2);
    let back = api.patch(&path, json!({"type": "individual"})).await;
    assert_eq!(back.status, 422);
}

#[tokio::test]
async fn a_member_without_external_id_is_removed_by_polars_id() {
    let (simulator, api, _receiver) = begin().await;
    api.create_customer("acme").await;
    let bare = json!({"email": "bare@example.com"});
    let made = api
        .post("/v1/customers/external/acme/members", bare)
        .await
        .body;
    let path = format!(
        "/v1/customers/{}/members/{}",
        made["customer_id"].as_str().unwrap(),
        made["id"].as_str().unwrap()
    );
    assert_eq!(api.delete(&path).await.status, 204);
    assert_eq!(api.delete(&path).await.status, 404);
    let owner = simulator.members("acme");
    assert_eq!(owner.len(), 1);
    let path = format!(
        "/v1/customers/{}/members/{}",
        made["customer_id"].as_str().unwrap(),
        owner[0].id
    );
    assert_eq!(api.delete(&path).await.status, 422, "nobody else owns it");
}

#[tokio::test]
async fn names_and_addresses_are_kept_normalised() {
    let (simulator, api, _receiver) = begin().await;
    let owner =
        json!({"email": "Ada.B@XN--EXMPLE-CUA.com", "name": "  Ada ", "external_id": "ada"});
    let body =
        json!({"type": "team", "name": "\tAcme Inc  ", "external_id": "acme", "owner": owner});
    make(&api, body).await;
    assert_eq!(
        simulator.customer("acme").unwrap().name.as_deref(),
        Some("Acme Inc")
    );
    let ada = &simulator.members("acme")[0];
    assert_eq!(ada.name.as_deref(), Some("Ada"));
    assert_eq!(
        ada.email, "Ada.B@exämple.com",
        "the local part keeps its case"
    );
    // A letter and its accent apart, as some keyboards type it.
    let apart =
        json!({"email": "zoe\u{308}@EXA\u{308}MPLE.com", "name": " Zoe ", "external_id": "zoe"});
    let members = "/v1/customers/external/acme/members";
    let zoe = api.post(members, apart).await.body;
    assert_eq!(zoe["email"], "zo\u{eb}@ex\u{e4}mple.com");
    let patched = json!({"email": "ZOE@XN--EXMPLE-CUA.com", "name": " Zoe Z "});
    let zoe = api.patch(&format!("{members}/zoe"), patched).await.body;
    assert_eq!(
        (&zoe["email"], &zoe["name"]),
        (&json!("ZOE@exämple.com"), &json!("Zoe Z"))
    );
    let renamed = api.patch("/v1/customers/external/acme", json!({"name": " Acme "}));
    assert_eq!(renamed.await.body["name"], "Acme");
}

#[tokio::test]
async fn what_is_equal_when_normalised_is_no_change_and_sends_nothing() {
    let (simulator, api, receiver) = begin().await;
    api.create_customer("acme").await;
    assert!(simulator.deliveries_finished(TIMEOUT).await);
    receiver.clear();
    let same = api.patch("/v1/customers/external/acme", json!({"name": "  Acme "}));
    assert_eq!(same.await.status, 200);
    let same = json!({"email": "acme@EXAMPLE.com", "name": "Owner "});
    let path = "/v1/customers/external/acme/members/acme-owner";
    assert_eq!(api.patch(path, same).await.status, 200);
    assert!(simulator.deliveries_finished(TIMEOUT).await);
    assert_eq!(receiver.types(), [""; 0]);
}

#[tokio::test]
async fn two_members_cannot_exchange_addresses_and_a_refused_change_changes_nothing() {
    let (simulator, api, _receiver) = begin().await;
    api.create_customer("acme").await;
    let members = "/v1/customers/external/acme/members";
    for name in ["ada", "bob"] {
        let member =
            json!({"email": format!("{name}@example.com"), "name": name, "external_id": name});
        assert_eq!(api.post(members, member).await.status, 201);
    }
    let before = simulator.members("acme");
    for (member, address) in [("ada", "BOB@example.com"), ("bob", "ada@example.com")] {
        let change = json!({"email": address, "name": "New", "role": "owner"});
        let refused = api.patch(&format!("{members}/{member}"), change).await;
        let detail = &refused.body["detail"][0];
        assert_eq!(
            (refused.status, &detail["loc"]),
            (422, &json!(["body", "email"]))
        );
        let message = "A member with this email already exists for this customer.";
        assert_eq!(detail["msg"], message);
    }
    let dead = json!({"email": "ada@undeliverable.example", "name": "New"});
    assert_eq!(api.patch(&format!("{members}/ada"), dead).await.status, 422);
    assert_eq!(simulator.members("acme"), before);
}

#[tokio::test]
async fn a_purchase_of_a_customer_without_external_id_is_delivered_without_one() {
    let (simulator, api, receiver) = begin().await;
    let body = json!({"type": "team", "name": "By hand", "owner": {"email": "o@example.com"}});
    let id = make(&api, body).await.parse().unwrap();
    simulator.purchase_for(id, Product::Pro).await.unwrap();
    assert!(simulator.deliveries_finished(TIMEOUT).await);
    let grants = receiver.of_type("benefit_grant.created");
    assert_eq!(grants.len(), 2);
    let customer = &grants[0].body["data"]["customer"];
    assert_eq!(
        (&customer["id"], &customer["external_id"]),
        (&json!(id), &Value::Null)
    );
}

#[tokio::test]
async fn a_grant_says_so_where_its_customer_is_none_of_ours_or_its_benefit_has_no_type() {
    let (simulator, api, receiver) = begin().await;
    let (mut odd, mut bare) = (serde_json::Map::new(), serde_json::Map::new());
    odd.insert("type".into(), "not ours".into());
    bare.insert("note".into(), "no type".into());
    let odd = simulator.add_benefit("Odd", odd).await;
    let bare = simulator.add_benefit("Bare", bare).await;
    let set = simulator.set_benefits_of_product(Product::Free, vec![odd, bare]);
    set.await.unwrap();
    let stranger = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee";
    for external_id in ["not-a-uuid", stranger] {
        assert_eq!(api.create_customer(external_id).await.status, 201);
        receiver.clear();
        simulator
            .purchase(external_id, Product::Free)
            .await
            .unwrap();
        assert!(simulator.deliveries_finished(TIMEOUT).await);
        let grants = receiver.of_type("benefit_grant.created");
        let data = |number: usize| &grants[number].body["data"];
        assert_eq!(data(0)["customer"]["external_id"], external_id);
        assert_eq!(data(0)["benefit"]["metadata"]["type"], "not ours");
        assert_eq!(data(1)["benefit"]["metadata"], json!({"note": "no type"}));
    }
}
