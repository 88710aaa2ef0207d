//! Some failures are one customer's, some come from something in front of Polar, some from asking too much at once.

use crate::common::{Api, TIMEOUT, start};
use chrono::TimeDelta;
use serde_json::{Value, json};
use simulator::{Faults, Gateway, Options, Product, RequestMatch};

#[tokio::test]
async fn one_customers_calls_fail_while_others_are_served() {
    let simulator = start(Options::default()).await;
    let api = Api::of(&simulator);
    let ill = api.create_customer("ill").await.body["id"].clone();
    api.create_customer("well").await;
    let bought = simulator.purchase("ill", Product::Pro).await.unwrap();
    simulator.fail_customer("ill");
    let id = ill.as_str().unwrap();
    let calls = [
        ("GET", "/v1/customers/external/ill".to_owned()),
        ("PATCH", format!("/v1/customers/{id}")),
        ("GET", format!("/v1/subscriptions/{bought}")),
        ("GET", "/v1/members/?external_customer_id=ill".to_owned()),
        ("GET", format!("/v1/benefit-grants/?customer_id={id}")),
    ];
    for (method, path) in calls {
        let body = if method == "PATCH" {
            json!({"name": "N"})
        } else {
            Value::Null
        };
        let failed = api.call(method, &path, body).await;
        assert_eq!(failed.status, 500, "{path}");
        assert!(!failed.headers.contains_key("polar-version"));
    }
    assert_eq!(api.create_customer("ill").await.status, 500);
    let name = simulator.customer("ill").unwrap().name;
    assert_eq!(name.as_deref(), Some("Acme"), "nothing was committed");
    assert_eq!(api.get("/v1/customers/external/well").await.status, 200);
    let event = json!({"name": "u", "external_customer_id": "ill", "external_id": "1"});
    assert_eq!(api.ingest(json!([event])).await.status, 200);
    simulator.fail_nobody();
    assert_eq!(api.get("/v1/customers/external/ill").await.status, 200);
}

#[tokio::test]
async fn a_gateway_answers_without_polars_words_and_version() {
    let simulator = start(Options::default()).await;
    let api = Api::of(&simulator);
    api.create_customer("acme").await;
    for status in [404, 403, 400, 408] {
        for html in [true, false] {
            simulator.set_gateway(Some(Gateway {
                status,
                html,
                path: "/v1/customers".to_owned(),
            }));
            let answer = api.get("/v1/customers/external/acme").await;
            assert_eq!(answer.status, status);
            assert!(!answer.headers.contains_key("polar-version"));
            assert_eq!(answer.body.is_string(), html);
            assert_eq!(answer.body.get("error"), None);
            assert_eq!(answer.body.get("detail"), None);
            assert_eq!(api.get("/v1/members/").await.status, 200, "another path");
        }
    }
    let seen = simulator.requests();
    assert_eq!(seen[1].status, Some(404));
    simulator.set_gateway(None);
    let answer = api.get("/v1/customers/external/acme").await;
    assert_eq!(answer.status, 200);
    assert!(answer.headers.contains_key("polar-version"));
}

#[tokio::test]
async fn a_token_loses_a_scope_and_gets_it_back() {
    let simulator = start(Options::default()).await;
    let api = Api::of(&simulator);
    simulator.withdraw_scopes(&["benefits:read", "benefits:write"]);
    let refused = api.get("/v1/benefit-grants/").await;
    assert_eq!(refused.status, 403);
    assert_eq!(refused.body["error"], "insufficient_scope");
    let challenge = refused.headers["www-authenticate"].to_str().unwrap();
    assert!(challenge.contains("scope=\"benefits:read"), "{challenge}");
    assert!(refused.headers.contains_key("polar-version"));
    assert_eq!(api.get("/v1/subscriptions/").await.status, 200);
    simulator.restore_token(simulator.access_token());
    assert_eq!(api.get("/v1/benefit-grants/").await.status, 200);
}

#[tokio::test]
async fn too_many_calls_at_once_make_it_stand_still_for_half_a_minute() {
    let options = Options {
        stall_above: Some(3),
        faults: "timeout-ms=1".parse::<Faults>().unwrap(),
        ..Options::default()
    };
    let simulator = start(options).await;
    let api = Api::of(&simulator);
    let held = simulator.hold(RequestMatch::path("/v1/customers"));
    let call = || api.get("/v1/customers/");
    let (first, second, third, fourth) = tokio::join!(call(), call(), call(), async {
        assert!(held.wait_for(3, TIMEOUT).await);
        let fourth = call().await;
        held.release_all();
        fourth
    });
    assert_eq!([first.status, second.status, third.status], [200; 3]);
    assert_eq!(fourth.status, 500);
    assert_eq!(call().await.status, 500, "also when they have become few");
    simulator.advance(TimeDelta::seconds(31)).await;
    assert_eq!(call().await.status, 200);
}

#[tokio::test]
async fn all_of_it_can_be_asked_for_over_http() {
    let simulator = start(Options::default()).await;
    let api = Api::of(&simulator);
    api.create_customer("acme").await;
    let path = "/v1/customers/external/acme";
    let cases = [
        (
            "fail",
            json!({"customer": "acme"}),
            json!({"customer": null}),
            500,
        ),
        (
            "gateway",
            json!({"status": 408, "html": true}),
            json!({"status": null}),
            408,
        ),
        (
            "scopes",
            json!({"without": ["customers:read", "customers:write"]}),
            json!({"without": []}),
            403,
        ),
    ];
    for (route, broken, repaired, status) in cases {
        let route = format!("/simulator/{route}");
        assert_eq!(api.post(&route, broken).await.status, 200);
        assert_eq!(api.get(path).await.status, status);
        assert_eq!(api.post(&route, repaired).await.status, 200);
        assert_eq!(api.get(path).await.status, 200);
    }
    let when = json!({"method": "DELETE", "path": "/v1/customers/", "point": "commit"});
    let what = json!({"method": "DELETE", "path": "/v1/customers/external/acme"});
    let armed = api.post("/simulator/arm", json!({"when": when, "do": what}));
    assert_eq!(armed.await.body, json!({"armed": 1}));
    assert_eq!(
        api.delete(path).await.status,
        204,
        "it raced with another deletion"
    );
    let state = api.get("/simulator/state").await.body;
    assert_eq!(
        (&state["armed"], &state["failing"]),
        (&json!(0), &json!([]))
    );
    assert_eq!(
        api.post("/simulator/gateway", json!({"status": 7}))
            .await
            .status,
        422
    );
}
