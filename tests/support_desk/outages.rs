//! The support desk is down, busy, or refuses the token: that uses up no attempt and is nobody else's failure.

use std::time::Duration;

use serde_json::Value;
use simulator::{PlainFault, PlainOutage};

use crate::fixture::{SupportDeskApp, renamed};
use crate::test_app::{Tenant, user};

#[tokio::test(flavor = "multi_thread")]
async fn half_an_hour_without_plain_loses_nothing_uses_up_no_attempt_and_touches_nothing_else() {
    let app = SupportDeskApp::open().await;
    let tenants: Vec<Tenant> = (0..50).map(|_| Tenant::new()).collect();
    app.plain.set_outage(Some(PlainOutage::Unavailable));
    let people: Vec<String> = tenants.iter().map(|_| user()).collect();
    let mut changes = Vec::new();
    for (number, (tenant, person)) in tenants.iter().zip(&people).enumerate() {
        let email = format!("person{number}@example.com");
        let mut created = tenant.created();
        created["data"]["owner"]["email"] = format!("owner{number}@example.com").into();
        changes.extend([
            created,
            tenant.added(person, &email, "member"),
            renamed(tenant, "Later"),
        ]);
    }
    app.tell(&changes).await;
    app.work_until_idle().await;
    // Billing is in step although nobody at the support desk was reached.
    for (tenant, person) in tenants.iter().zip(&people) {
        assert_eq!(
            app.simulator.customer(&tenant.id).unwrap().name.as_deref(),
            Some("Later")
        );
        assert!(app.member(tenant, person).is_some());
    }
    let at_polar = app.simulator.requests().len();
    // Every minute the waiting jobs come round.
    for _minute in 0..30 {
        app.hurry().await;
        app.drain().await;
    }
    assert_eq!(app.failures().await, Vec::<Value>::new());
    // Whoever is to belong to a tenant that is not there is brought by it.
    let ends = app.ends("sync_support_desk").await;
    assert!(ends.iter().all(|(end, _)| end == "ignored"), "{ends:?}");
    let notes = app.notes().await;
    assert!(
        notes.iter().all(|(_, note)| note
            .as_deref()
            .is_some_and(|note| note.contains("Plain is down"))),
        "{notes:?}"
    );
    app.plain.set_outage(None);
    app.resolve_waits().await;
    for (number, tenant) in tenants.iter().enumerate() {
        assert_eq!(app.plain.tenant(&tenant.id).unwrap().name, "Later");
        let email = format!("person{number}@example.com");
        assert!(app.plain.people_of(&tenant.id).contains(&email));
    }
    assert_eq!(app.failures().await, Vec::<Value>::new());
    assert_eq!(
        app.simulator.requests().len(),
        at_polar,
        "Polar was asked nothing again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_breaker_lets_out_probes_only() {
    let app = SupportDeskApp::open().await;
    app.plain.set_outage(Some(PlainOutage::Unavailable));
    let tenants: Vec<Tenant> = (0..20).map(|_| Tenant::new()).collect();
    for tenant in &tenants {
        app.tell(&[tenant.created()]).await;
    }
    app.drain().await;
    let before = app.asked().len();
    for _minute in 0..5 {
        app.hurry().await;
        app.drain().await;
    }
    assert_eq!(app.operations(before), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_answers_in_plains_place_uses_up_no_attempt() {
    let app = SupportDeskApp::open().await;
    app.plain.set_outage(Some(PlainOutage::Page));
    let tenant = Tenant::new();
    app.tell(&[tenant.created()]).await;
    for _minute in 0..3 {
        app.hurry().await;
        app.drain().await;
    }
    assert_eq!(app.failures().await, Vec::<Value>::new());
    app.plain.set_outage(None);
    app.resolve_waits().await;
    assert_eq!(app.plain.people_of(&tenant.id), ["owner@example.com"]);
    assert_eq!(app.failures().await, Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_that_never_answers_holds_up_no_billing() {
    let app = SupportDeskApp::open().await;
    app.plain.set_outage(Some(PlainOutage::Silent));
    let worker = app.work();
    for _ in 0..30 {
        app.tell(&[Tenant::new().created()]).await;
    }
    let synced = "SELECT count(*) FROM polar_jobs.organizations WHERE synced_event = event_id";
    app.until("all are at Polar", async || app.count(synced).await == 30)
        .await;
    worker.stop().await;
    assert_eq!(app.failures().await, Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_whose_calls_fail_while_plain_answers_others_uses_up_only_their_own_attempts() {
    let app = SupportDeskApp::open().await;
    let (tenant, ada, bob) = (app.tenant().await, user(), user());
    app.plain.fail_for("ada@example.com");
    app.tell(&[
        tenant.added(&ada, "ada@example.com", "member"),
        tenant.added(&bob, "bob@example.com", "member"),
    ])
    .await;
    app.resolve_waits().await;
    assert_eq!(
        app.plain.people_of(&tenant.id),
        ["bob@example.com", "owner@example.com"]
    );
    assert_eq!(app.failures().await.len(), 20);
    let ends = app.ends("sync_support_desk").await;
    assert_eq!(ends.iter().filter(|(end, _)| end == "discarded").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_and_a_request_to_slow_down_use_up_no_attempt() {
    let app = SupportDeskApp::open().await;
    let right = app.plain.token();
    app.plain.set_token("another one");
    let tenant = Tenant::new();
    app.tell(&[tenant.created()]).await;
    for _look in 0..3 {
        app.work_until_idle().await;
        app.hurry().await;
    }
    app.plain.set_token(&right);
    app.plain.fail_next("upsertTenant", PlainFault::TooMany(7));
    // The request to slow down holds for this process; another one looks for itself.
    app.give_token(Some("free"));
    app.work_until_idle().await;
    let (waiting, seconds): (i64, f64) = sqlx::query_as(
        "SELECT count(*), max(extract(epoch FROM run_at - now()))::float8 FROM polar_jobs.live_jobs",
    )
    .fetch_one(&app.pool)
    .await
    .unwrap();
    assert_eq!(waiting, 1);
    assert!((4.0..12.0).contains(&seconds), "{seconds}");
    app.give_token(Some("free"));
    app.resolve_waits().await;
    assert_eq!(app.plain.people_of(&tenant.id), ["owner@example.com"]);
    assert_eq!(app.failures().await, Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_token_may_not_do_waits_for_it() {
    let app = SupportDeskApp::open().await;
    app.plain
        .fail_next("upsertTenant", PlainFault::Refused("forbidden"));
    let tenant = Tenant::new();
    app.tell(&[tenant.created()]).await;
    tokio::time::timeout(Duration::from_secs(30), app.resolve_waits())
        .await
        .unwrap();
    assert!(app.plain.tenant(&tenant.id).is_some());
    assert_eq!(app.failures().await, Vec::<Value>::new());
}
