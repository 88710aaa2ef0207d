//! Purchases and renewals: who is told what, and when.

use chrono::TimeDelta;
use serde_json::json;
use simulator::{Product, SubscriptionStep};
use uuid::Uuid;

use crate::test_app::{CONTACTS, TestApp, polar, polar_of};

const CONFIRMATION: &str = "polar_self_subscription_confirmation";
const CYCLED: &str = "polar_self_subscription_cycled";

async fn recipients(app: &TestApp, template: &str) -> Vec<String> {
    let mails = app.mails().await.into_iter();
    mails
        .filter(|mail| mail.template == template && mail.state == "sent")
        .map(|mail| mail.recipient)
        .collect()
}

#[tokio::test]
async fn a_purchase_is_told_to_each_billing_contact_once_with_the_invoice() {
    let app = TestApp::open(polar()).await;
    let acme = app.purchase().await;
    app.finish().await;
    let received = app.mail_server.received();
    let to: Vec<&str> = received.iter().map(|mail| mail.to.as_str()).collect();
    assert_eq!(to, CONTACTS);
    assert_eq!(recipients(&app, CONFIRMATION).await, CONTACTS);
    let number = app.order(&acme).invoice_number.unwrap();
    for mail in &received {
        assert_eq!(mail.from, "billing@example.com");
        assert_eq!(mail.subject(), "You're now on Pro");
        let files = mail.files();
        assert_eq!(files.len(), 1);
        assert_eq!(files[0].0, format!("{number}.pdf"));
        assert!(files[0].1.starts_with(b"%PDF-"));
        assert!(String::from_utf8_lossy(&files[0].1).contains(&number));
        assert!(
            mail.text()
                .contains(&format!("Your invoice {number} is attached"))
        );
        assert!(
            mail.html()
                .replace("&#x2f;", "/")
                .contains("href=\"https://app.example.com/billing\"")
        );
        let message = mail.parsed();
        let header = |name| message.header(name).and_then(|value| value.as_text());
        assert_eq!(header("Auto-Submitted"), Some("auto-generated"));
        assert!(String::from_utf8_lossy(&mail.bytes).contains("Reply-To: help@example.com"));
    }
    let rows = app.mails().await;
    for (row, mail) in rows.iter().zip(&received) {
        assert_eq!((row.attempts, &row.error), (1, &None));
        let id = row.message_id.clone().unwrap();
        assert_eq!(id.trim_matches(['<', '>']), mail.message_id());
    }
    assert_ne!(rows[0].message_id, rows[1].message_id);
}

#[tokio::test]
async fn a_renewal_and_a_change_of_plan_are_told_as_what_they_are() {
    let app = TestApp::open(polar()).await;
    let acme = app.purchase().await;
    app.finish().await;
    app.simulator.renew(&acme).await.unwrap();
    app.finish().await;
    app.simulator
        .change_plan(&acme, Product::Scale, true)
        .await
        .unwrap();
    app.finish().await;
    let to_owner: Vec<String> = app
        .mail_server
        .received()
        .iter()
        .filter(|mail| mail.to == "owner@example.com")
        .map(|mail| mail.subject())
        .collect();
    assert_eq!(
        to_owner,
        [
            "You're now on Pro",
            "Your Pro subscription renewed",
            "You're now on Scale"
        ]
    );
    assert_eq!(recipients(&app, CYCLED).await, CONTACTS);
}

/// The newest mail to the owner.
fn newest(app: &TestApp) -> (String, String) {
    let received = app.mail_server.received();
    let to_owner = received.iter().rfind(|mail| mail.to == "owner@example.com");
    let mail = to_owner.unwrap();
    (mail.subject(), mail.text())
}

#[tokio::test]
async fn what_credit_pays_is_not_said_to_be_charged() {
    let app = TestApp::open(polar()).await;
    let acme = app.purchase().await;
    app.simulator
        .change_plan(&acme, Product::Scale, true)
        .await
        .unwrap();
    app.finish().await;
    let subscription = app.simulator.subscriptions(&acme).pop().unwrap();
    let path = format!("/v1/subscriptions/{}", subscription.id);
    let cheaper = json!({
        "product_id": app.simulator.product_id(Product::Pro).unwrap(),
        "proration_behavior": "invoice",
    });
    app.at_polar("PATCH", &path, Some(&cheaper)).await;
    app.finish().await;
    assert!(app.order(&acme).net_amount < 0, "it gives credit");
    let (subject, text) = newest(&app);
    assert_eq!(subject, "You're now on Pro");
    assert!(text.contains("Amount charged: $0.00"), "{text}");
    app.simulator.renew(&acme).await.unwrap();
    app.finish().await;
    let (subject, text) = newest(&app);
    assert_eq!(subject, "Your Pro subscription renewed");
    assert!(text.contains("Amount charged: $0.00"), "{text}");
}

#[tokio::test]
async fn a_plan_that_has_ended_before_its_mail_went_is_not_said_to_be_in_force() {
    let app = TestApp::open(polar()).await;
    let acme = app.organization().await;
    app.simulator.purchase(&acme, Product::Pro).await.unwrap();
    app.simulator.revoke(&acme).await.unwrap();
    app.finish().await;
    let received = app.mail_server.received();
    let order = received
        .iter()
        .find(|mail| mail.subject() == "Your order of Pro");
    let text = order.unwrap().text();
    assert!(text.contains("which has ended since"), "{text}");
    assert!(!text.contains("Next renewal"), "{text}");
}

#[tokio::test]
async fn an_order_is_told_once_however_often_it_is_delivered() {
    let app = TestApp::open(polar()).await;
    let acme = app.purchase().await;
    app.finish().await;
    let order = app.order(&acme).id;
    for event_type in ["order.created", "order.paid", "order.updated"] {
        app.deliver_order(event_type, &acme, order).await;
        app.finish().await;
    }
    for delivery in app.simulator.deliveries() {
        app.simulator.redeliver(delivery.id);
    }
    app.finish().await;
    assert_eq!(app.mail_server.received().len(), CONTACTS.len());
    let (outcome, note) = app.end("send_order_email").await;
    assert_eq!(outcome, "ignored");
    assert_eq!(note, "the mails of this order were asked for before");
}

#[tokio::test]
async fn free_orders_and_unknown_orders_ask_for_no_contacts() {
    let app = TestApp::open(polar()).await;
    let acme = app.organization().await;
    let discount = app.full_discount().await;
    app.simulator.set_webhook_url(None);
    app.simulator.purchase(&acme, Product::Pro).await.unwrap();
    let subscription = app.simulator.subscriptions(&acme).pop().unwrap();
    let path = format!("/v1/subscriptions/{}", subscription.id);
    app.at_polar("PATCH", &path, Some(&json!({"discount_id": discount})))
        .await;
    app.simulator.renew(&acme).await.unwrap();
    app.work_until_idle().await;
    let free = app.order(&acme);
    assert_eq!(
        (free.net_amount, free.billing_reason.as_str()),
        (0, "subscription_cycle")
    );
    let before = app.requests("GET", "/v1/members/").len();
    // The delivery says 2 000.
    app.deliver_order("order.created", &acme, free.id).await;
    app.look_again().await;
    assert_eq!(app.end("send_order_email").await.1, "the order is free");
    app.deliver_order("order.paid", &acme, Uuid::new_v4()).await;
    app.look_again().await;
    assert_eq!(
        app.end("send_order_email").await.1,
        "Polar has no such order"
    );
    assert_eq!(app.requests("GET", "/v1/members/").len(), before);
    assert!(app.mails().await.is_empty());
}

#[tokio::test]
async fn orders_of_no_plan_ask_for_no_contacts() {
    let app = TestApp::open(polar()).await;
    let acme = app.organization().await;
    app.simulator.set_webhook_url(None);
    app.simulator.purchase(&acme, Product::Pro).await.unwrap();
    let order = app.order(&acme).id;
    let before = app.requests("GET", "/v1/members/").len();
    for reason in ["purchase", "subscription_meter_cycle", "of_a_later_release"] {
        let changed = app.simulator.set_billing_reason(order, reason);
        changed.await.unwrap();
        app.deliver_order("order.paid", &acme, order).await;
        app.work_until_idle().await;
        assert_eq!(
            app.end("send_order_email").await.1,
            "the order is about no plan",
            "{reason}"
        );
    }
    assert_eq!(app.ends("send_order_email").await.len(), 3);
    assert_eq!(app.requests("GET", "/v1/members/").len(), before);
    assert!(app.mails().await.is_empty());
}

#[tokio::test]
async fn a_customer_without_billing_contacts_is_told_nothing() {
    let app = TestApp::open(polar()).await;
    let acme = app.organization().await;
    app.simulator.set_webhook_url(None);
    app.simulator.purchase(&acme, Product::Pro).await.unwrap();
    let (order, customer) = (
        app.order(&acme).id,
        app.simulator.customer(&acme).unwrap().id,
    );
    app.at_polar("DELETE", &format!("/v1/customers/{customer}"), None)
        .await;
    let data = json!({"id": order, "customer_id": customer, "customer": {"external_id": acme}});
    app.deliver("order.paid", &data).await;
    app.work_until_idle().await;
    assert_eq!(
        app.end("send_order_email").await.1,
        "the customer has no billing contacts"
    );
    assert!(app.mails().await.is_empty());
}

#[tokio::test]
async fn an_unpaid_renewal_is_told_when_it_is_paid() {
    let app = TestApp::open(polar()).await;
    let acme = app.organization().await;
    app.simulator.set_webhook_url(None);
    app.simulator.purchase(&acme, Product::Pro).await.unwrap();
    app.deliver_from_now_on();
    app.simulator.fail_payment(&acme).await.unwrap();
    app.look_again().await;
    app.look_again().await;
    assert!(recipients(&app, CYCLED).await.is_empty());
    assert!(app.requests("POST", "/invoice").is_empty());
    let waits = app.notes().await;
    assert!(waits.iter().any(|(kind, note)| kind == "send_order_email"
        && note.as_ref().unwrap().contains("the order is not paid")));
    app.simulator.recover_payment(&acme).await.unwrap();
    app.finish().await;
    assert_eq!(recipients(&app, CYCLED).await, CONTACTS);
    let failures = app.failures("send_order_email").await;
    assert!(failures.is_empty(), "waiting is no failure: {failures:?}");
}

#[tokio::test]
async fn three_days_after_an_order_that_nobody_paid_nothing_is_mailed() {
    let app = TestApp::open(polar_of(TimeDelta::hours(73))).await;
    let acme = app.organization().await;
    app.simulator.set_webhook_url(None);
    app.simulator.purchase(&acme, Product::Pro).await.unwrap();
    app.simulator.fail_payment(&acme).await.unwrap();
    let order = app.order(&acme);
    assert_eq!(order.status, "pending");
    app.deliver_order("order.created", &acme, order.id).await;
    app.look_again().await;
    assert_eq!(
        app.end("send_order_email").await.1,
        "the order was not paid within 72 hours"
    );
    assert!(app.mails().await.is_empty());
}

#[tokio::test]
async fn an_order_that_became_void_before_the_look_mails_nothing() {
    let app = TestApp::open(polar()).await;
    let acme = app.organization().await;
    app.simulator.set_webhook_url(None);
    app.simulator.purchase(&acme, Product::Pro).await.unwrap();
    app.simulator.fail_payment(&acme).await.unwrap();
    let order = app.order(&acme).id;
    app.deliver_order("order.created", &acme, order).await;
    app.simulator
        .step(&acme, SubscriptionStep::Revoke)
        .await
        .unwrap();
    assert_eq!(app.order(&acme).status, "void");
    app.look_again().await;
    assert_eq!(app.end("send_order_email").await.1, "the order is void");
    assert!(app.mails().await.is_empty());
}

#[tokio::test]
async fn the_first_look_comes_a_minute_after_the_order_and_a_payment_brings_it_forward() {
    let app = TestApp::open(polar()).await;
    let acme = app.organization().await;
    app.simulator.set_webhook_url(None);
    app.simulator.purchase(&acme, Product::Pro).await.unwrap();
    let order = app.order(&acme).id;
    let delay = "SELECT extract(epoch FROM max(run_at) - max(created_at))::bigint FROM polar_jobs.live_jobs WHERE kind = 'send_order_email'";
    app.deliver_order("order.created", &acme, order).await;
    assert!((59..=60).contains(&app.count(delay).await));
    app.deliver_order("order.paid", &acme, order).await;
    let jobs = "SELECT count(*) FROM polar_jobs.live_jobs WHERE kind = 'send_order_email'";
    assert_eq!(app.count(jobs).await, 1);
    app.work_until_idle().await;
    assert!(
        !app.requests("GET", &format!("/v1/orders/{order}"))
            .is_empty()
    );
}
