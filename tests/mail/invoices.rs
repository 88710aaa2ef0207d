//! The invoice that goes with a mail: asked for, waited for, fetched, or given up.

use chrono::TimeDelta;
use serde_json::Value;
use simulator::{InvoiceFault, OrderStatus, Product, RequestMatch};
use uuid::Uuid;

use crate::test_app::{CONTACTS, DEADLINE, TestApp, polar, polar_of, polar_with_slow_invoices};

/// A paid order that nobody was told of yet.
async fn order(app: &TestApp) -> (String, Uuid) {
    let acme = app.organization().await;
    app.simulator.set_webhook_url(None);
    app.simulator.purchase(&acme, Product::Pro).await.unwrap();
    let order = app.order(&acme).id;
    (acme, order)
}

/// The same with an invoice.
async fn order_with_invoice(app: &TestApp) -> (String, Uuid) {
    let (acme, order) = order(app).await;
    let path = format!("/v1/orders/{order}/invoice");
    app.at_polar("POST", &path, None).await;
    app.until("the invoice is made", async || {
        app.order(&acme).is_invoice_generated
    })
    .await;
    (acme, order)
}

/// Why the job of the order waits.
async fn waits_for(app: &TestApp) -> String {
    let notes = app.notes().await.into_iter();
    let mut of_order = notes.filter(|(kind, _)| kind == "send_order_email");
    let (_, note) = of_order.next().expect("a job that waits");
    note.unwrap_or_default()
}

fn files(app: &TestApp) -> Vec<usize> {
    let received = app.mail_server.received();
    received.iter().map(|mail| mail.files().len()).collect()
}

#[tokio::test]
async fn an_invoice_that_is_there_is_not_asked_for_again() {
    let app = TestApp::open(polar()).await;
    let acme = app.organization().await;
    app.simulator.set_webhook_url(None);
    app.simulator.purchase(&acme, Product::Pro).await.unwrap();
    let order = app.order(&acme).id;
    app.at_polar("POST", &format!("/v1/orders/{order}/invoice"), None)
        .await;
    app.until("the invoice is made", async || {
        app.order(&acme).is_invoice_generated
    })
    .await;
    let asked = app.requests("POST", "/invoice").len();
    app.deliver_order("order.updated", &acme, order).await;
    app.finish().await;
    assert_eq!(app.requests("POST", "/invoice").len(), asked);
    let received = app.mail_server.received();
    assert!(received.len() == 2 && received.iter().all(|mail| mail.files().len() == 1));
}

#[tokio::test]
async fn while_there_is_no_invoice_nothing_is_sent_and_its_delivery_wakes_the_job() {
    let app = TestApp::open(polar_with_slow_invoices()).await;
    let acme = app.organization().await;
    app.simulator.purchase(&acme, Product::Pro).await.unwrap();
    app.work_until_idle().await;
    assert_eq!(app.requests("POST", "/invoice").len(), 1, "asked for once");
    assert!(app.mails().await.is_empty());
    let waits = app.notes().await;
    let of_order = |wait: &&(String, Option<String>)| wait.0 == "send_order_email";
    let reasons: Vec<_> = waits.iter().filter(of_order).collect();
    assert_eq!(reasons.len(), 1, "{waits:?}");
    let reason = reasons[0].1.as_deref().unwrap_or_default();
    assert!(reason.contains("the invoice is being made"), "{waits:?}");
    // Nobody looks again before `order.updated` says that it is there.
    app.simulator.advance(TimeDelta::hours(1)).await;
    app.until("the job is woken", async || {
        app.work_until_idle().await;
        !app.mails().await.is_empty()
    })
    .await;
    assert_eq!(app.requests("POST", "/invoice").len(), 1);
    app.finish().await;
    assert!(
        app.mail_server
            .received()
            .iter()
            .all(|mail| mail.files().len() == 1)
    );
    assert!(
        app.ends("send_order_email")
            .await
            .iter()
            .all(|(end, _)| end != "discarded")
    );
}

#[tokio::test]
async fn after_a_day_the_mail_goes_without_its_invoice() {
    let mut options = polar_of(TimeDelta::hours(25));
    options.invoice_delay = std::time::Duration::from_secs(3600);
    let app = TestApp::open(options).await;
    let acme = app.organization().await;
    app.simulator.purchase(&acme, Product::Pro).await.unwrap();
    app.finish().await;
    let received = app.mail_server.received();
    assert_eq!(received.len(), CONTACTS.len());
    assert!(received.iter().all(|mail| mail.files().is_empty()));
    assert!(!received[0].text().contains("attached"));
}

#[tokio::test]
async fn without_billing_details_the_mail_goes_at_once_and_no_invoice_is_asked_for() {
    let app = TestApp::open(polar()).await;
    let acme = app.organization().await;
    app.simulator.set_webhook_url(None);
    app.simulator.purchase(&acme, Product::Pro).await.unwrap();
    app.simulator
        .set_billing_details(&acme, Value::Null, true)
        .await
        .unwrap();
    app.deliver_from_now_on();
    app.simulator.renew(&acme).await.unwrap();
    app.finish().await;
    let received = app.mail_server.received();
    assert_eq!(received.len(), CONTACTS.len());
    for mail in received {
        assert!(mail.files().is_empty());
        assert!(!mail.text().contains("attached") && !mail.html().contains("attached"));
    }
    assert!(app.requests("POST", "/invoice").is_empty());
    assert!(app.requests("GET", "/invoice").is_empty());
}

#[tokio::test]
async fn a_document_that_cannot_be_taken_is_looked_for_again_and_goes_once_it_is_there() {
    let app = TestApp::open(polar()).await;
    let (acme, order) = order_with_invoice(&app).await;
    app.simulator.set_invoice_fault(Some(InvoiceFault::NoLink));
    app.deliver_order("order.updated", &acme, order).await;
    app.work_until_idle().await;
    assert!(
        waits_for(&app)
            .await
            .contains("Polar has no link to the invoice")
    );
    for fault in [
        InvoiceFault::Unencrypted,
        InvoiceFault::Unavailable,
        InvoiceFault::Page,
        // One byte more than is taken.
        InvoiceFault::Size(10 * 1024 * 1024 + 1),
    ] {
        app.simulator.set_invoice_fault(Some(fault));
        app.look_again().await;
        let reason = waits_for(&app).await;
        assert!(
            reason.contains("the invoice cannot be fetched"),
            "{fault:?}: {reason}"
        );
        assert!(app.mails().await.is_empty(), "{fault:?}");
    }
    let failures = app.failures("send_order_email").await;
    assert!(failures.is_empty(), "waiting is no failure: {failures:?}");
    app.simulator.set_invoice_fault(None);
    app.finish().await;
    assert_eq!(files(&app), [1, 1]);
}

#[tokio::test]
async fn after_a_day_a_document_that_cannot_be_taken_is_given_up() {
    for fault in [
        InvoiceFault::Unencrypted,
        InvoiceFault::Size(64 * 1024 * 1024),
    ] {
        let app = TestApp::open(polar_of(TimeDelta::hours(25))).await;
        let (acme, order) = order_with_invoice(&app).await;
        app.simulator.set_invoice_fault(Some(fault));
        app.deliver_order("order.updated", &acme, order).await;
        app.finish().await;
        assert_eq!(files(&app), [0, 0], "{fault:?}");
        assert!(!app.mail_server.received()[0].text().contains("attached"));
    }
}

#[tokio::test]
async fn an_invoice_that_polar_fails_to_give_is_waited_for_and_then_given_up() {
    for age in [TimeDelta::zero(), TimeDelta::hours(25)] {
        let app = TestApp::open(polar_of(age)).await;
        let (acme, paid) = order_with_invoice(&app).await;
        app.simulator.set_invoice_fault(Some(InvoiceFault::Broken));
        app.deliver_order("order.updated", &acme, paid).await;
        for _attempt in 0..12 {
            app.look_again().await;
        }
        if age.is_zero() {
            assert!(waits_for(&app).await.contains("Polar does not give"));
            let failures = app.failures("send_order_email").await;
            assert_eq!(failures.len(), 10, "then it waits: {failures:?}");
            app.simulator.set_invoice_fault(None);
        }
        app.finish().await;
        let attached = usize::from(age.is_zero());
        assert_eq!(files(&app), [attached, attached]);
    }
}

#[tokio::test]
async fn an_invoice_that_is_refused_for_want_of_billing_details_is_not_waited_for() {
    let app = TestApp::open(polar()).await;
    let (acme, order) = order(&app).await;
    app.simulator.set_invoice_fault(Some(InvoiceFault::Refused));
    app.deliver_order("order.paid", &acme, order).await;
    app.finish().await;
    assert_eq!(app.requests("POST", "/invoice").len(), 1);
    assert_eq!(files(&app), [0, 0]);
}

#[tokio::test]
async fn an_order_that_becomes_void_while_its_invoice_is_asked_for_mails_nothing() {
    let app = TestApp::open(polar()).await;
    let (acme, order) = order(&app).await;
    let asking = RequestMatch::path("/invoice").method("POST").on_arrival();
    let held = app.simulator.hold(asking);
    let working = app.work();
    app.deliver_order("order.paid", &acme, order).await;
    assert!(held.wait_for(1, DEADLINE).await);
    let void = app.simulator.set_order_status(order, OrderStatus::Void);
    void.await.unwrap();
    drop(held);
    let refused = "SELECT count(*) FROM polar_jobs.jobs WHERE note LIKE '%the order can have no invoice now%'";
    app.until("the job waits", async || app.count(refused).await == 1)
        .await;
    working.stop().await;
    app.look_again().await;
    assert_eq!(app.end("send_order_email").await.1, "the order is void");
    assert!(app.mails().await.is_empty());
}
