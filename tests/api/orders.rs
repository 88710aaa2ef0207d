//! Orders and invoices.

use serde_json::json;
use simulator::Product;
use uuid::Uuid;

use crate::app::{ApiApp, As};

#[tokio::test]
async fn orders_come_newest_first_by_the_page_and_without_a_customer_there_are_none() {
    let app = ApiApp::open().await;
    let company = app.customer_of(Product::Pro).await;
    for _ in 0..2 {
        app.simulator.renew(company.id()).await.unwrap();
    }
    let member = As::Browser(company.member.clone());
    let first = app
        .ask(&member, "GET", &company.at("/orders?limit=2"))
        .await;
    assert_eq!(first.status, 200, "{first:?}");
    assert_eq!(
        first.body["pagination"],
        json!({"total_count": 3, "max_page": 2})
    );
    assert_eq!(first.body["items"].as_array().unwrap().len(), 2);
    assert_eq!(first.body["items"][0]["product_name"], "Pro");
    let sent = app.simulator.requests().pop().unwrap();
    assert!(
        sent.query.contains("page=1") && sent.query.contains("limit=2"),
        "{}",
        sent.query
    );
    let second = app
        .ask(&member, "GET", &company.at("/orders?page=2&limit=2"))
        .await;
    assert_eq!(
        second.body["items"][0]["billing_reason"],
        "subscription_create"
    );
    for wrong in [
        "limit=0",
        "limit=101",
        "limit=x",
        "page=0",
        "page=-1",
        "limit=",
    ] {
        let answer = app
            .ask(&member, "GET", &company.at(&format!("/orders?{wrong}")))
            .await;
        assert_eq!(answer.status, 422, "{wrong}");
    }
    let before = app.simulator.requests().len();
    let unsynced = app.unsynced_company().await;
    app.drain_without_billing().await;
    let none = app
        .ask(&unsynced.owner(), "GET", &unsynced.at("/orders"))
        .await;
    assert_eq!(
        none.body,
        json!({"items": [], "pagination": {"total_count": 0, "max_page": 0}})
    );
    let asked: Vec<String> = app.simulator.requests()[before..]
        .iter()
        .map(|r| r.path.clone())
        .collect();
    assert!(
        asked.iter().all(|path| !path.contains("/orders")),
        "{asked:?}"
    );
}

#[tokio::test]
async fn an_invoice_is_given_to_its_owner_only_and_every_refusal_reads_the_same() {
    let app = ApiApp::open().await;
    let (company, other) = (
        app.customer_of(Product::Pro).await,
        app.customer_of(Product::Pro).await,
    );
    let unsynced = app.unsynced_company().await;
    app.drain_without_billing().await;
    let order = app.simulator.orders(company.id())[0].id;
    let ask = async |company: &crate::app::Company, order: &str| {
        let path = company.at(&format!("/orders/{order}/invoice"));
        let answer = app.ask(&company.owner(), "GET", &path).await;
        (answer.status, answer.body)
    };
    let missing = ask(&company, &order.to_string()).await;
    assert_eq!(missing.0, 404, "no invoice yet");
    assert_eq!(
        app.writes()
            .iter()
            .filter(|w| w.path.contains("invoice"))
            .count(),
        0
    );
    app.simulator
        .set_billing_details(
            company.id(),
            json!({"line1": "1 Rue", "postal_code": "75001", "city": "Paris", "country": "FR"}),
            true,
        )
        .await
        .unwrap();
    app.at_polar("POST", &format!("/v1/orders/{order}/invoice"), None)
        .await;
    app.simulator.advance(chrono::TimeDelta::seconds(5)).await;
    let (status, invoice) = ask(&company, &order.to_string()).await;
    assert_eq!(status, 200, "{invoice:?}");
    assert!(invoice["url"].as_str().unwrap().starts_with("http"));
    assert_eq!(
        ask(&other, &order.to_string()).await,
        missing,
        "somebody else's"
    );
    assert_eq!(
        ask(&unsynced, &order.to_string()).await,
        missing,
        "no customer"
    );
    assert_eq!(
        ask(&company, &Uuid::new_v4().to_string()).await,
        missing,
        "unknown"
    );
    assert_eq!(ask(&company, "nonsense").await, missing);
}
