//! The description that integrators generate their clients from.

use serde_json::Value;

use crate::app::{ApiApp, As};

const KEPT: &str = include_str!("../../docs/openapi.json");

#[tokio::test]
async fn what_is_served_is_what_is_kept_in_docs() {
    let app = ApiApp::open().await;
    let served = app.ask(&As::Nobody, "GET", "/openapi.json").await;
    assert_eq!(served.status, 200);
    let made = polar_jobs::api::document();
    if let Some(path) = std::env::var_os("UPDATE_OPENAPI") {
        std::fs::write(path, &made).unwrap();
    }
    assert_eq!(served.body, serde_json::from_str::<Value>(&made).unwrap());
    assert!(
        KEPT == made,
        "docs/openapi.json is not what the handlers say; see docs/contributing.md"
    );
}

#[test]
fn it_is_openapi_3_1_and_names_every_route_but_the_webhook() {
    let document: Value = serde_json::from_str(KEPT).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut routes: Vec<String> = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let below = path
            .strip_prefix("/v1/organizations/{organization_id}")
            .unwrap();
        for (method, operation) in item.as_object().unwrap() {
            assert!(operation["responses"]["401"].is_object(), "{method} {path}");
            routes.push(format!("{} {below}", method.to_uppercase()));
        }
    }
    routes.sort();
    assert_eq!(
        routes,
        [
            "DELETE /payment-methods/{payment_method_id}",
            "DELETE /subscription",
            "GET /benefit-grants",
            "GET /billing-details",
            "GET /orders",
            "GET /orders/{order_id}/invoice",
            "GET /payment-methods",
            "GET /plans",
            "GET /subscription",
            "PATCH /benefit-grants/{grant_id}",
            "PATCH /billing-details",
            "PATCH /subscription",
            "POST /customer-session",
            "POST /payment-methods/{payment_method_id}/default",
            "POST /startup-program/claim",
            "POST /subscription",
        ]
    );
}

#[test]
fn an_idempotency_key_is_described_where_it_is_read() {
    let document: Value = serde_json::from_str(KEPT).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let parameters = operation["parameters"].as_array().unwrap();
            let described = parameters
                .iter()
                .any(|parameter| parameter["name"] == "Idempotency-Key");
            // Each request for a session begins another one.
            let is_read = method != "get" && !path.ends_with("/customer-session");
            assert_eq!(described, is_read, "{method} {path}");
        }
    }
}

#[test]
fn every_refusal_that_a_route_has_is_described() {
    let document: Value = serde_json::from_str(KEPT).unwrap();
    let statuses = |method: &str, route: &str| -> Vec<String> {
        let path = format!("/v1/organizations/{{organization_id}}{route}");
        let responses = &document["paths"][path][method]["responses"];
        responses.as_object().unwrap().keys().cloned().collect()
    };
    let has = |method, route, wanted: &[&str]| {
        let known = statuses(method, route);
        for status in wanted {
            let described = known.iter().any(|status_known| status_known == status);
            assert!(described, "{method} {route}: {status} in {known:?}");
        }
    };
    has("patch", "/subscription", &["402", "409", "413", "422"]);
    has(
        "post",
        "/startup-program/claim",
        &["402", "409", "413", "422"],
    );
    // Who acts as a person may have to wait until Polar knows that person.
    has("get", "/billing-details", &["409", "502", "503"]);
    has("get", "/payment-methods", &["409"]);
    has("get", "/benefit-grants", &["409"]);
    has("patch", "/billing-details", &["409", "413", "422"]);
    let reads = statuses("get", "/plans");
    assert!(
        !reads
            .iter()
            .any(|status| status == "409" || status == "413")
    );
}
