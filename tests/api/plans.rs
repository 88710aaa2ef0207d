//! What can be chosen, and what an organization has.

use serde_json::{Value, json};
use simulator::Product;

use crate::app::{ApiApp, As};
use crate::test_app::Tenant;

fn names(plans: &Value) -> Vec<&str> {
    let plans = plans.as_array().unwrap();
    plans
        .iter()
        .map(|plan| plan["name"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn the_free_plan_comes_first_and_the_others_follow_in_the_catalogues_order() {
    let app = ApiApp::open().await;
    let company = app.company().await;
    // Only people change the catalogue, so the description of what we may call lacks it.
    app.simulator.provoked(3);
    for (product, metadata) in [
        (
            Product::Pro,
            json!({"order": "3", "features": " A, B,,C ", "description": "short", "highlight": true}),
        ),
        (Product::Growth, json!({"features": "x"})),
        (Product::Scale, json!({"order": 1.5})),
    ] {
        let path = format!("/v1/products/{}", app.product(product));
        app.at_polar("PATCH", &path, Some(&json!({"metadata": metadata})))
            .await;
    }
    let plans = app
        .ask(&company.owner(), "GET", &company.at("/plans"))
        .await;
    assert_eq!(plans.status, 200);
    assert_eq!(names(&plans.body), ["Free", "Scale", "Pro", "Growth"]);
    assert_eq!(
        plans.body[0],
        json!({"product_id": null, "name": "Free", "description": null, "recurring_interval": "month",
            "price": {"amount": 0, "currency": "usd"}, "transaction_fee": {"percent": 500, "fixed": 50},
            "highlight": false, "custom": false,
            "features": ["Fees per transaction only", "Community support"]})
    );
    assert_eq!(
        plans.body[2],
        json!({"product_id": app.product(Product::Pro), "name": "Pro", "description": "short",
            "recurring_interval": "month", "price": {"amount": 2000, "currency": "usd"},
            "transaction_fee": {"percent": 380, "fixed": 35}, "highlight": true, "custom": false,
            "features": ["A", "B", "C"]})
    );
}

#[tokio::test]
async fn a_plan_whose_fee_cannot_be_read_is_shown_without_one_and_hides_no_other() {
    let app = ApiApp::open().await;
    let company = app.company().await;
    let broken = json!({"type": "transaction_fee", "fee_percent": "much", "fee_fixed": 35});
    let broken = broken.as_object().unwrap().clone();
    let edited = app
        .simulator
        .edit_benefit_metadata(Product::Pro, "transaction_fee", broken);
    edited.await.unwrap();
    let plans = app.ask(&As::Server, "GET", &company.at("/plans")).await;
    assert_eq!(names(&plans.body), ["Free", "Pro", "Growth", "Scale"]);
    assert_eq!(plans.body[1]["transaction_fee"], Value::Null);
    assert_eq!(
        plans.body[2]["transaction_fee"],
        json!({"percent": 360, "fixed": 30})
    );
}

#[tokio::test]
async fn whoever_pays_what_early_members_pay_is_shown_as_one_until_it_subscribes() {
    let app = ApiApp::open().await;
    let (early, other) = (Tenant::new(), Tenant::new());
    let with_fees = |tenant: &Tenant, fixed| {
        let mut created = tenant.created();
        created["data"]["fees"] =
            json!({"basis_points": 400, "fixed": fixed, "subscription_basis_points": 50});
        created
    };
    app.tell(&[with_fees(&early, 40), with_fees(&other, 41)])
        .await;
    app.drain().await;
    let first_plan = async |tenant: &Tenant| {
        let path = format!("/v1/organizations/{}/plans", tenant.id);
        let name = app.ask(&As::Server, "GET", &path).await.body[0]["name"].clone();
        let path = format!("/v1/organizations/{}/subscription", tenant.id);
        let plan = app.ask(&As::Server, "GET", &path).await.body["plan"]["name"].clone();
        (name, plan)
    };
    assert_eq!(
        first_plan(&early).await,
        (json!("Early Member"), json!("Early Member"))
    );
    assert_eq!(first_plan(&other).await, (json!("Free"), json!("Free")));
    app.simulator
        .purchase(&early.id, Product::Pro)
        .await
        .unwrap();
    assert_eq!(first_plan(&early).await, (json!("Free"), json!("Pro")));
}

#[tokio::test]
async fn without_a_subscription_the_free_plan_is_shown() {
    let app = ApiApp::open().await;
    let company = app.company().await;
    let view = app
        .ask(&company.owner(), "GET", &company.at("/subscription"))
        .await;
    let nulls = [
        "subscription_id",
        "product_id",
        "current_period_start",
        "current_period_end",
        "canceled_at",
        "started_at",
        "ends_at",
        "pending_change",
        "discount",
        "startup_program_status",
        "startup_program_scale_product_id",
    ];
    assert_eq!(view.status, 200);
    for field in nulls {
        assert_eq!(view.body[field], Value::Null, "{field}");
    }
    assert_eq!(view.body["status"], "active");
    assert_eq!(view.body["amount"], 0);
    assert_eq!(view.body["plan"]["name"], "Free");
}

#[tokio::test]
async fn every_status_is_shown_as_what_it_gives() {
    let app = ApiApp::open().await;
    for (happens, status, plan) in [
        ("", "active", "Pro"),
        ("past_due", "past_due", "Pro"),
        ("paused", "paused", "Pro"),
        ("revoked", "active", "Free"),
    ] {
        let company = app.customer_of(Product::Pro).await;
        let id = company.id();
        match happens {
            "past_due" => app.simulator.fail_payment(id).await.unwrap(),
            "paused" => app.simulator.pause(id).await.unwrap(),
            "revoked" => app.simulator.revoke(id).await.unwrap(),
            _ => {}
        }
        let view = app
            .ask(&As::Server, "GET", &company.at("/subscription"))
            .await;
        assert_eq!(view.body["status"], status, "{happens}");
        assert_eq!(view.body["plan"]["name"], plan, "{happens}");
    }
}
