//! The desk is down, busy, or refuses the token: that uses up no attempt and is nobody else's failure.

use std::time::Duration;

use serde_json::Value;
use simulator::{PlainFault, PlainOutage};

use crate::desk::{Desk, renamed};
use crate::test_app::{Tenant, user};

#[tokio::test(flavor = "multi_thread")]
async fn half_an_hour_without_plain_loses_nothing_uses_up_no_attempt_and_touches_nothing_else() {
    let desk = Desk::open().await;
    let tenants: Vec<Tenant> = (0..50).map(|_| Tenant::new()).collect();
    desk.plain.set_outage(Some(PlainOutage::Unavailable));
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
    desk.tell(&changes).await;
    desk.work_until_idle().await;
    // Billing is in step although nobody at the desk was reached.
    for (tenant, person) in tenants.iter().zip(&people) {
        assert_eq!(
            desk.simulator.customer(&tenant.id).unwrap().name.as_deref(),
            Some("Later")
        );
        assert!(desk.member(tenant, person).is_some());
    }
    let at_polar = desk.simulator.requests().len();
    // Every minute the waiting jobs come round.
    for _minute in 0..30 {
        desk.hurry().await;
        desk.drain().await;
    }
    assert_eq!(desk.failures().await, Vec::<Value>::new());
    // Whoever is to belong to a tenant that is not there is brought by it.
    let ends = desk.ends("sync_support_desk").await;
    assert!(ends.iter().all(|(end, _)| end == "ignored"), "{ends:?}");
    let notes = desk.notes().await;
    assert!(
        notes.iter().all(|(_, note)| note
            .as_deref()
            .is_some_and(|note| note.contains("Plain is down"))),
        "{notes:?}"
    );
    desk.plain.set_outage(None);
    desk.resolve_waits().await;
    for (number, tenant) in tenants.iter().enumerate() {
        assert_eq!(desk.plain.tenant(&tenant.id).unwrap().name, "Later");
        let email = format!("person{number}@example.com");
        assert!(desk.plain.people_of(&tenant.id).contains(&email));
    }
    assert_eq!(desk.failures().await, Vec::<Value>::new());
    assert_eq!(
        desk.simulator.requests().len(),
        at_polar,
        "Polar was asked nothing again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_breaker_lets_out_probes_only() {
    let desk = Desk::open().await;
    desk.plain.set_outage(Some(PlainOutage::Unavailable));
    let tenants: Vec<Tenant> = (0..20).map(|_| Tenant::new()).collect();
    for tenant in &tenants {
        desk.tell(&[tenant.created()]).await;
    }
    desk.drain().await;
    let before = desk.asked().len();
    for _minute in 0..5 {
        desk.hurry().await;
        desk.drain().await;
    }
    assert_eq!(desk.operations(before), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_answers_in_plains_place_uses_up_no_attempt() {
    let desk = Desk::open().await;
    desk.plain.set_outage(Some(PlainOutage::Page));
    let tenant = Tenant::new();
    desk.tell(&[tenant.created()]).await;
    for _minute in 0..3 {
        desk.hurry().await;
        desk.drain().await;
    }
    assert_eq!(desk.failures().await, Vec::<Value>::new());
    desk.plain.set_outage(None);
    desk.resolve_waits().await;
    assert_eq!(desk.plain.people_of(&tenant.id), ["owner@example.com"]);
    assert_eq!(desk.failures().await, Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_that_never_answers_holds_up_no_billing() {
    let desk = Desk::open().await;
    desk.plain.set_outage(Some(PlainOutage::Silent));
    let worker = desk.work();
    for _ in 0..30 {
        desk.tell(&[Tenant::new().created()]).await;
    }
    let synced = "SELECT count(*) FROM polar_jobs.organizations WHERE synced_event = event_id";
    desk.until("all are at Polar", async || desk.count(synced).await == 30)
        .await;
    worker.stop().await;
    assert_eq!(desk.failures().await, Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_whose_calls_fail_while_plain_answers_others_uses_up_only_their_own_attempts() {
    let desk = Desk::open().await;
    let (tenant, ada, bob) = (desk.tenant().await, user(), user());
    desk.plain.fail_for("ada@example.com");
    desk.tell(&[
        tenant.added(&ada, "ada@example.com", "member"),
        tenant.added(&bob, "bob@example.com", "member"),
    ])
    .await;
    desk.resolve_waits().await;
    assert_eq!(
        desk.plain.people_of(&tenant.id),
        ["bob@example.com", "owner@example.com"]
    );
    assert_eq!(desk.failures().await.len(), 20);
    let ends = desk.ends("sync_support_desk").await;
    assert_eq!(ends.iter().filter(|(end, _)| end == "discarded").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_and_a_request_to_slow_down_use_up_no_attempt() {
    let desk = Desk::open().await;
    let right = desk.plain.token();
    desk.plain.set_token("another one");
    let tenant = Tenant::new();
    desk.tell(&[tenant.created()]).await;
    for _look in 0..3 {
        desk.work_until_idle().await;
        desk.hurry().await;
    }
    desk.plain.set_token(&right);
    desk.plain.fail_next("upsertTenant", PlainFault::TooMany(7));
    // The request to slow down holds for this process; another one looks for itself.
    desk.give_token(Some("free"));
    desk.work_until_idle().await;
    let (waiting, seconds): (i64, f64) = sqlx::query_as(
        "SELECT count(*), max(extract(epoch FROM run_at - now()))::float8 FROM polar_jobs.live_jobs",
    )
    .fetch_one(&desk.pool)
    .await
    .unwrap();
    assert_eq!(waiting, 1);
    assert!((4.0..12.0).contains(&seconds), "{seconds}");
    desk.give_token(Some("free"));
    desk.resolve_waits().await;
    assert_eq!(desk.plain.people_of(&tenant.id), ["owner@example.com"]);
    assert_eq!(desk.failures().await, Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_token_may_not_do_waits_for_it() {
    let desk = Desk::open().await;
    desk.plain
        .fail_next("upsertTenant", PlainFault::Refused("forbidden"));
    let tenant = Tenant::new();
    desk.tell(&[tenant.created()]).await;
    tokio::time::timeout(Duration::from_secs(30), desk.resolve_waits())
        .await
        .unwrap();
    assert!(desk.plain.tenant(&tenant.id).is_some());
    assert_eq!(desk.failures().await, Vec::<Value>::new());
}
