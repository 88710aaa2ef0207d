//! `catalogue`: what is understood of the plans at Polar, and three plans to begin with.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::{Value, json};
use simulator::{Options, Product, Simulator};

use super::support::{Said, run};

const DOCUMENT: &str = include_str!("../../docs/catalogue.md");

fn catalogue(polar: &Simulator, arguments: &[&str]) -> Said {
    let organization = polar.organization_id().to_string();
    let mut all = vec!["catalogue"];
    all.extend(arguments);
    let settings = [
        ("POLAR_API_URL", polar.url()),
        ("POLAR_ACCESS_TOKEN", polar.access_token().to_owned()),
        ("POLAR_ORGANIZATION_ID", organization),
    ];
    let settings: Vec<(&str, &str)> = settings
        .iter()
        .map(|(name, value)| (*name, &**value))
        .collect();
    run(&settings, &all)
}

fn check(polar: &Simulator) -> (Option<i32>, Vec<Value>) {
    let said = catalogue(polar, &["check", "--format", "json"]);
    let rows: Vec<Value> =
        serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{}", said.err));
    (said.code, rows)
}

/// Not the [`crate::local_polar`] of other tests: the published description that it holds requests against leaves out the
/// making of products and benefits. Recorded requests stand in for it.
async fn start(catalogue: bool) -> Simulator {
    let options = Options {
        catalogue,
        ..Options::default()
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Simulator::start(options, address).await.unwrap()
}

/// The body of a recorded request that Polar took.
fn recorded(text: &str) -> Value {
    let mut recording: Value = serde_json::from_str(text).unwrap();
    recording["request"]["body"].take()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_is_made_once_and_nothing_is_wrong_with_it() {
    let polar = start(false).await;
    for words in ["made", "is there already"] {
        let made = catalogue(&polar, &["create", "--example"]);
        assert_eq!(made.code, Some(0), "{}", made.err);
        assert_eq!(made.out.matches(words).count(), 3, "{}", made.out);
    }
    let (code, rows) = check(&polar);
    assert_eq!((code, rows.len()), (Some(0), 3));
    let scale = json!({"name": "Scale", "for_sale": true, "order": 3, "price": 10_000, "currency": "usd",
        "fee_basis_points": 340, "fee_fixed": 25, "subscription_fee_basis_points": 0, "support_tier": "scale",
        "preview_access": true, "sso_enabled": true, "faults": [],
        "features": ["Lowest fees", "Prioritized support", "Preview features", "Single sign-on"]});
    for (field, value) in scale.as_object().unwrap() {
        assert_eq!(&rows[2][field], value, "{field}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mistake_in_the_catalogue_is_named_with_its_benefit_and_field() {
    let polar = start(true).await;
    let fees = polar
        .benefit_id(Product::Pro, "transaction_fee")
        .unwrap()
        .to_string();
    let sso = polar.benefit_id(Product::Scale, "sso").unwrap().to_string();
    let not_a_number = json!({"type": "transaction_fee", "fee_percent": "3.8 %", "fee_fixed": 35, "subscription_fee_percent": 0});
    for (product, kind, metadata) in [
        (Product::Pro, "transaction_fee", not_a_number),
        (Product::Scale, "sso", json!({"type": "SSO"})),
    ] {
        let metadata = metadata.as_object().unwrap().clone();
        polar
            .edit_benefit_metadata(product, kind, metadata)
            .await
            .unwrap();
    }
    let (code, rows) = check(&polar);
    assert_eq!(code, Some(1));
    let faults = |name: &str| {
        let row = rows.iter().find(|row| row["name"] == name).unwrap();
        row["faults"].to_string()
    };
    assert!(
        faults("Pro").contains(&fees) && faults("Pro").contains("fee_percent"),
        "{}",
        faults("Pro")
    );
    assert!(
        faults("Scale").contains(&sso) && faults("Scale").contains("is sso meant?"),
        "{}",
        faults("Scale")
    );
    assert_eq!(faults("Growth"), "[]");
    let table = catalogue(&polar, &["check"]);
    assert!(table.out.contains(&fees), "{}", table.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metadata_in_the_documentation_is_what_the_example_makes() {
    let polar = start(false).await;
    assert_eq!(catalogue(&polar, &["create", "--example"]).code, Some(0));
    let made = polar
        .requests()
        .into_iter()
        .filter(|request| request.method == "POST");
    let mut written = 0;
    for metadata in made.filter_map(|request| request.body.get("metadata").cloned()) {
        let printed = DOCUMENT
            .split("```json\n")
            .skip(1)
            .flat_map(|block| block.split("```").next().unwrap_or_default().lines())
            .any(|line| serde_json::from_str::<Value>(line).is_ok_and(|line| line == metadata));
        assert!(printed, "docs/catalogue.md does not print {metadata}");
        written += 1;
    }
    assert_eq!(written, 3 + 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_is_made_by_requests_as_polar_took_them() {
    let polar = start(false).await;
    assert_eq!(catalogue(&polar, &["create", "--example"]).code, Some(0));
    let plan = recorded(include_str!(
        "../../simulator/tests/recordings/products-create-pro.json"
    ));
    let benefit = recorded(include_str!(
        "../../simulator/tests/recordings/benefits-create-fee.json"
    ));
    let benefits = recorded(include_str!(
        "../../simulator/tests/recordings/products-set-benefits-free.json"
    ));
    for request in polar
        .requests()
        .iter()
        .filter(|request| request.method == "POST")
    {
        let taken = match &*request.path {
            "/v1/products/" => &plan,
            "/v1/benefits/" => &benefit,
            _ => &benefits,
        };
        for (field, value) in request.body.as_object().unwrap() {
            assert!(taken.get(field).is_some(), "{field} in {}", request.path);
            assert!(
                value.is_object() || value.is_array() || value.is_string(),
                "{field}"
            );
        }
        let price = |body: &Value| {
            body.pointer("/prices/0").map(|price| {
                price
                    .as_object()
                    .unwrap()
                    .keys()
                    .cloned()
                    .collect::<Vec<_>>()
            })
        };
        assert_eq!(price(&request.body), price(taken));
    }
}

#[test]
fn the_example_is_refused_at_the_real_polar_unless_it_is_meant() {
    let settings = [
        ("POLAR_ACCESS_TOKEN", "polar_oat_x"),
        (
            "POLAR_ORGANIZATION_ID",
            "1dbfc517-0bbf-4301-9ba8-555ca42b9737",
        ),
    ];
    let refused = run(&settings, &["catalogue", "create", "--example"]);
    assert_eq!(refused.code, Some(2));
    assert!(
        refused.err.contains("--yes") && refused.err.contains("sandbox"),
        "{}",
        refused.err
    );
    let without = run(&[], &["catalogue", "check"]);
    assert_eq!(without.code, Some(2));
    assert!(
        without.err.contains("POLAR_ACCESS_TOKEN"),
        "{}",
        without.err
    );
}
