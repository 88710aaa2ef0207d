//! Cancellations, failed payments and ends: what is told, and what is no news any more.

use serde_json::json;
use simulator::Product;

use crate::test_app::{CONTACTS, TestApp, polar};

const CANCELLATION: &str = "polar_self_subscription_cancellation";
const PAST_DUE: &str = "polar_self_subscription_past_due";
const REVOKED: &str = "polar_self_subscription_revoked";

/// An organization on a plan; mails about the purchase are gone.
async fn subscribed(app: &TestApp) -> String {
    let acme = app.organization().await;
    app.simulator.set_webhook_url(None);
    app.simulator.purchase(&acme, Product::Pro).await.unwrap();
    app.deliver_from_now_on();
    acme
}

/// Recipients of sent mails of a template.
async fn told(app: &TestApp, template: &str) -> Vec<String> {
    let mails = app.mails().await.into_iter();
    mails
        .filter(|mail| mail.template == template && mail.state == "sent")
        .map(|mail| mail.recipient)
        .collect()
}

/// A delivery about the subscription that says nothing but its type and its ids.
async fn deliver(app: &TestApp, event_type: &str, organization: &str) {
    let customer = app.simulator.customer(organization).unwrap();
    let subscription = app.simulator.subscriptions(organization).pop().unwrap();
    let data = json!({"id": subscription.id, "customer_id": customer.id, "amount": 2000,
        "customer": {"id": customer.id, "external_id": organization}});
    app.deliver(event_type, &data).await;
}

#[tokio::test]
async fn a_cancellation_is_told_once_with_the_day_on_which_access_ends() {
    let app = TestApp::open(polar()).await;
    let acme = subscribed(&app).await;
    app.simulator.cancel_at_period_end(&acme).await.unwrap();
    app.finish().await;
    deliver(&app, "subscription.canceled", &acme).await;
    app.finish().await;
    assert_eq!(told(&app, CANCELLATION).await, CONTACTS);
    let received = app.mail_server.received();
    assert_eq!(received.len(), CONTACTS.len());
    let end = app
        .simulator
        .subscriptions(&acme)
        .pop()
        .unwrap()
        .current_period_end;
    let day = end.format("%B %-d, %Y").to_string();
    for mail in received {
        assert_eq!(mail.subject(), "Your Pro subscription has been canceled");
        assert!(
            mail.text().contains(&format!("until {day}")),
            "{}",
            mail.text()
        );
        assert!(mail.files().is_empty());
    }
}

#[tokio::test]
async fn a_cancellation_that_was_taken_back_is_no_news_and_the_next_one_is() {
    let app = TestApp::open(polar()).await;
    let acme = subscribed(&app).await;
    app.simulator.cancel_at_period_end(&acme).await.unwrap();
    app.simulator.uncancel(&acme).await.unwrap();
    app.finish().await;
    assert_eq!(
        app.end("send_subscription_email").await.1,
        "the cancellation was taken back"
    );
    assert!(app.mails().await.is_empty());
    for occasion in 1..=2 {
        app.simulator.cancel_at_period_end(&acme).await.unwrap();
        app.finish().await;
        assert_eq!(
            told(&app, CANCELLATION).await.len(),
            occasion * CONTACTS.len()
        );
        app.simulator.uncancel(&acme).await.unwrap();
        app.finish().await;
    }
}

#[tokio::test]
async fn a_failed_payment_is_told_once_per_period_and_not_after_it_was_made_good() {
    let app = TestApp::open(polar()).await;
    let acme = subscribed(&app).await;
    app.simulator.fail_payment(&acme).await.unwrap();
    app.work_until_idle().await;
    deliver(&app, "subscription.past_due", &acme).await;
    app.work_until_idle().await;
    assert_eq!(told(&app, PAST_DUE).await, CONTACTS);
    let mail = app.mail_server.received().pop().unwrap();
    assert_eq!(mail.subject(), "Your Pro subscription payment failed");
    app.simulator.recover_payment(&acme).await.unwrap();
    app.work_until_idle().await;
    deliver(&app, "subscription.past_due", &acme).await;
    app.work_until_idle().await;
    assert_eq!(
        app.end("send_subscription_email").await.1,
        "the subscription is past due no longer"
    );
    assert_eq!(told(&app, PAST_DUE).await.len(), CONTACTS.len());
}

#[tokio::test]
async fn an_end_is_told_once() {
    let app = TestApp::open(polar()).await;
    let acme = subscribed(&app).await;
    deliver(&app, "subscription.revoked", &acme).await;
    app.finish().await;
    assert_eq!(
        app.end("send_subscription_email").await.1,
        "the subscription has not ended"
    );
    app.simulator.revoke(&acme).await.unwrap();
    app.finish().await;
    deliver(&app, "subscription.revoked", &acme).await;
    app.finish().await;
    assert_eq!(told(&app, REVOKED).await, CONTACTS);
    let subjects = app
        .mail_server
        .received()
        .into_iter()
        .map(|mail| mail.subject());
    let ends = subjects.filter(|subject| subject == "Your Pro subscription has ended");
    assert_eq!(ends.count(), CONTACTS.len());
}

#[tokio::test]
async fn a_subscription_that_costs_nothing_asks_for_no_contacts() {
    let app = TestApp::open(polar()).await;
    let acme = app.organization().await;
    app.simulator.set_webhook_url(None);
    app.simulator.purchase(&acme, Product::Free).await.unwrap();
    app.simulator.cancel_at_period_end(&acme).await.unwrap();
    let before = app.requests("GET", "/v1/members/").len();
    for event_type in [
        "subscription.canceled",
        "subscription.past_due",
        "subscription.revoked",
    ] {
        deliver(&app, event_type, &acme).await;
        app.work_until_idle().await;
        assert_eq!(
            app.end("send_subscription_email").await.1,
            "the subscription is free"
        );
    }
    assert_eq!(app.requests("GET", "/v1/members/").len(), before);
    assert!(app.mails().await.is_empty());
}

#[tokio::test]
async fn who_pays_nothing_thanks_to_a_discount_is_told_of_cancellation_and_end() {
    let app = TestApp::open(polar()).await;
    let acme = subscribed(&app).await;
    let discount = app.full_discount().await;
    let subscription = app.simulator.subscriptions(&acme).pop().unwrap().id;
    let path = format!("/v1/subscriptions/{subscription}");
    let attach = json!({"discount_id": discount});
    let discounted = app.at_polar("PATCH", &path, Some(&attach)).await;
    assert_eq!(discounted["amount"], 0, "{discounted}");
    app.simulator.cancel_at_period_end(&acme).await.unwrap();
    app.finish().await;
    assert_eq!(told(&app, CANCELLATION).await, CONTACTS);
    app.simulator.revoke(&acme).await.unwrap();
    app.finish().await;
    assert_eq!(told(&app, REVOKED).await, CONTACTS);
}

#[tokio::test]
async fn news_are_looked_at_without_delay_and_nobody_is_told_where_there_are_no_contacts() {
    let app = TestApp::open(polar()).await;
    let acme = subscribed(&app).await;
    app.simulator.set_webhook_url(None);
    let subscription = app.simulator.subscriptions(&acme).pop().unwrap().id;
    let customer = app.simulator.customer(&acme).unwrap().id;
    app.at_polar("DELETE", &format!("/v1/customers/{customer}"), None)
        .await;
    app.until("the subscription ends", async || {
        let path = format!("/v1/subscriptions/{subscription}");
        !app.at_polar("GET", &path, None).await["ended_at"].is_null()
    })
    .await;
    for event_type in ["subscription.canceled", "subscription.revoked"] {
        let data =
            json!({"id": subscription, "customer_id": customer, "customer": {"external_id": acme}});
        app.deliver(event_type, &data).await;
        let delayed = "SELECT count(*) FROM polar_jobs.live_jobs WHERE kind = 'send_subscription_email' AND run_at > created_at";
        assert_eq!(app.count(delayed).await, 0);
        app.work_until_idle().await;
        assert_eq!(
            app.end("send_subscription_email").await.1,
            "the customer has no billing contacts",
            "{event_type}"
        );
    }
    assert!(app.mails().await.is_empty());
}
