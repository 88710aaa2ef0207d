//! Who is told: each person once about one occasion, whatever address they have and whoever owns the customer by then.

use serde_json::{Value, json};
use simulator::{Product, RequestMatch};

use crate::test_app::{CONTACTS, DEADLINE, TestApp, polar};

/// The user with this role.
fn user(app: &TestApp, organization: &str, role: &str) -> String {
    let members = app.simulator.members(organization);
    let member = members.into_iter().find(|member| member.role == role);
    member.unwrap().external_id.unwrap()
}

/// Everything that was delivered once more, as other deliveries.
async fn tell_everything_again(app: &TestApp) {
    for delivery in app.simulator.deliveries() {
        let envelope: Value = serde_json::from_str(&delivery.body.unwrap()).unwrap();
        app.deliver(&delivery.event_type, &envelope["data"]).await;
    }
}

#[tokio::test]
async fn what_is_told_again_goes_neither_to_new_addresses_nor_to_new_contacts() {
    let app = TestApp::open(polar()).await;
    let acme = app.purchase().await;
    app.finish().await;
    app.simulator.fail_payment(&acme).await.unwrap();
    app.work_until_idle().await;
    app.simulator.revoke(&acme).await.unwrap();
    app.finish().await;
    let before = app.mails().await;
    // Purchase, failed payment, cancellation, end.
    assert_eq!(before.len(), 4 * CONTACTS.len());
    let owner = user(&app, &acme, "owner");
    app.tell(&[
        json!({"type": "user.updated", "data": {"id": owner, "email": "moved@example.com"}}),
        json!({"type": "member.added", "data": {"organization_id": acme, "role": "admin",
            "user": {"id": uuid::Uuid::new_v4(), "email": "new@example.com", "name": "Nora New"}}}),
    ])
    .await;
    app.finish().await;
    let managers = app.simulator.members(&acme).into_iter();
    let managers = managers.filter(|member| member.role != "member");
    let mut addresses: Vec<String> = managers.map(|member| member.email).collect();
    addresses.sort();
    assert_eq!(
        addresses,
        ["admin@example.com", "moved@example.com", "new@example.com"]
    );
    tell_everything_again(&app).await;
    app.finish().await;
    assert_eq!(app.mails().await, before);
    assert_eq!(app.mail_server.received().len(), before.len());
    assert_eq!(
        app.end("send_subscription_email").await.1,
        "these mails were asked for before"
    );
}

#[tokio::test]
async fn who_becomes_owner_while_polar_is_asked_is_told_and_who_was_owner_only_once() {
    let app = TestApp::open(polar()).await;
    let acme = app.organization().await;
    app.simulator.set_webhook_url(None);
    app.simulator.purchase(&acme, Product::Pro).await.unwrap();
    app.deliver_from_now_on();
    let asking = RequestMatch::path("/v1/members/")
        .method("GET")
        .on_arrival();
    let held = app.simulator.hold(asking);
    let working = app.work();
    app.simulator.cancel_at_period_end(&acme).await.unwrap();
    // The owner is told, the managers are asked for.
    held.release(1);
    assert!(held.wait_for(2, DEADLINE).await);
    app.simulator.set_webhook_url(None);
    let (owner, admin) = (
        user(&app, &acme, "owner"),
        user(&app, &acme, "billing_manager"),
    );
    for (user, change) in [
        (admin, json!({"role": "owner"})),
        (owner, json!({"email": "moved@example.com"})),
    ] {
        let path = format!("/v1/customers/external/{acme}/members/{user}");
        app.at_polar("PATCH", &path, Some(&change)).await;
    }
    drop(held);
    let sent = "SELECT count(*) FROM polar_jobs.mails WHERE state = 'sent'";
    app.until("the mails are sent", async || app.count(sent).await == 2)
        .await;
    working.stop().await;
    let mails = app.mails().await.into_iter();
    let recipients: Vec<String> = mails.map(|mail| mail.recipient).collect();
    assert_eq!(recipients, ["admin@example.com", "moved@example.com"]);
}

#[tokio::test]
async fn a_stand_in_for_an_address_that_somebody_else_has_at_polar_gets_no_mail() {
    let app = TestApp::open(polar()).await;
    let acme = app.organization().await;
    let successor = uuid::Uuid::new_v4();
    app.tell(&[
        json!({"type": "member.added", "data": {"organization_id": acme, "role": "member",
            "user": {"id": successor, "email": "OWNER@example.com", "name": "Nora New"}}}),
        json!({"type": "ownership.transferred", "data": {"organization_id": acme, "user_id": successor}}),
    ])
    .await;
    app.work_until_idle().await;
    assert_eq!(user(&app, &acme, "owner"), successor.to_string());
    let members = app.simulator.members(&acme);
    assert!(members.iter().any(|member| member.email.contains('+')));
    app.simulator.set_webhook_url(None);
    app.simulator.purchase(&acme, Product::Pro).await.unwrap();
    app.deliver_from_now_on();
    app.simulator.cancel_at_period_end(&acme).await.unwrap();
    app.work_until_idle().await;
    let received = app.mail_server.received().into_iter();
    let mut recipients: Vec<String> = received.map(|mail| mail.to.to_lowercase()).collect();
    recipients.sort();
    assert_eq!(recipients, CONTACTS);
}
