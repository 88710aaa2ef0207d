//! Every ten minutes somebody looks.

use chrono::TimeDelta;
use serde_json::json;
use simulator::Product;

use crate::fixture::Noted;
use crate::test_app::{DEADLINE, Tenant, TestApp, user};

const NOWHERE: &str = "http://127.0.0.1:9/integrations/polar/webhook";

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_delivers_is_fine_and_costs_no_more_than_two_looks() {
    let app = TestApp::open().await;
    app.watch().await;
    let fine = Noted {
        enabled: true,
        missing_events: Vec::new(),
        gap: false,
    };
    assert_eq!(app.noted().await, fine);
    assert_eq!(app.redeliveries(), 0);
    let marked = "SELECT count(*) FROM polar_jobs.organizations WHERE stale";
    assert_eq!(app.count(marked).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_while_polar_delivered_nothing_is_asked_for_once_it_delivers_again() {
    let (app, tenant) = (TestApp::open().await, Tenant::new());
    let ingress = app.webhook_url();
    let member = user();
    app.tell(&[
        tenant.created(),
        tenant.added(&member, "ada@example.com", "member"),
    ])
    .await;
    app.resolve_waits().await;
    // Deliveries fail until Polar disables the endpoint.
    app.simulator.set_webhook_url(Some(NOWHERE.to_owned()));
    app.simulator
        .purchase(&tenant.id, Product::Pro)
        .await
        .unwrap();
    app.simulator.renew(&tenant.id).await.unwrap();
    for _hour in 0..20 {
        app.simulator.advance(TimeDelta::minutes(10)).await;
    }
    assert!(!app.simulator.endpoint_enabled(), "Polar disabled it");
    app.watch().await;
    let noted = app.noted().await;
    assert!(!noted.enabled && noted.gap, "{noted:?}");
    // What happens now is not even recorded.
    app.simulator
        .change_plan(&tenant.id, Product::Scale, true)
        .await
        .unwrap();
    let path = format!("/v1/customers/external/{}/members", tenant.id);
    app.at_polar("DELETE", &format!("{path}/{member}"), None)
        .await;
    app.watch().await;
    assert!(app.noted().await.gap, "the gap lasts");
    assert_eq!(app.plan().await, "Free");

    let deliveries = "SELECT count(*) FROM polar_jobs.external_events WHERE source = 'polar'";
    let before = app.count(deliveries).await;
    app.simulator.set_webhook_url(Some(ingress));
    let said = app.command(&["endpoint", "enable"]).await;
    assert_eq!(said.code, Some(0), "{}", said.err);
    app.work_until_idle().await;
    assert_eq!(app.plan().await, "Scale");
    assert!(
        app.member(&tenant, &member).is_some(),
        "what no delivery tells is compared"
    );
    let noted = app.noted().await;
    assert!(noted.enabled && !noted.gap, "{noted:?}");
    let asked = i64::try_from(app.redeliveries()).unwrap();
    assert!(asked > 0, "what failed for good is sent again");
    assert!(app.count(deliveries).await >= before + asked, "and arrives");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_failed_for_good_is_asked_for_once_an_hour_while_the_endpoint_stays_enabled()
{
    let (app, tenant) = (TestApp::open().await, Tenant::new());
    app.tell(&[tenant.created()]).await;
    app.resolve_waits().await;
    let ingress = app.webhook_url();
    app.simulator.set_webhook_url(Some(NOWHERE.to_owned()));
    // One change, and so fewer events than it takes to disable the endpoint.
    app.at_polar(
        "PATCH",
        &format!("/v1/customers/external/{}", tenant.id),
        Some(&json!({"name": "Renamed by hand"})),
    )
    .await;
    for _step in 0..20 {
        app.simulator.advance(TimeDelta::minutes(10)).await;
    }
    assert!(app.simulator.deliveries_finished(DEADLINE).await);
    assert!(app.simulator.endpoint_enabled());
    app.watch().await;
    let asked = app.redeliveries();
    assert!(asked > 0);
    app.watch().await;
    assert_eq!(app.redeliveries(), asked, "not again within the hour");
    for _step in 0..20 {
        app.simulator.advance(TimeDelta::minutes(10)).await;
    }
    assert!(app.simulator.deliveries_finished(DEADLINE).await);
    app.simulator.set_webhook_url(Some(ingress));
    let hour = "UPDATE polar_jobs.redeliveries SET asked_at = asked_at - interval '61 minutes'";
    sqlx::query(hour).execute(&app.pool).await.unwrap();
    app.watch().await;
    assert_eq!(app.redeliveries(), 2 * asked);
    assert!(app.simulator.deliveries_finished(DEADLINE).await);
    app.watch().await;
    assert_eq!(app.redeliveries(), 2 * asked, "it arrived");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_types_of_events_are_noticed_and_enable_subscribes_them() {
    let (app, tenant) = (TestApp::open().await, Tenant::new());
    let id = app.endpoints().await[0]["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/webhooks/endpoints/{id}");
    app.at_polar(
        "PATCH",
        &path,
        Some(&json!({"events": ["order.refunded", "benefit.updated"]})),
    )
    .await;
    // Nobody tells us what is bought meanwhile.
    app.tell(&[tenant.created()]).await;
    app.work_until_idle().await;
    app.simulator
        .purchase(&tenant.id, Product::Pro)
        .await
        .unwrap();
    app.watch().await;
    let noted = app.noted().await;
    assert!(noted.enabled && noted.gap);
    assert_eq!(app.plan().await, "Free");
    assert!(
        noted
            .missing_events
            .contains(&"benefit_grant.revoked".to_owned()),
        "{noted:?}"
    );
    assert!(
        !noted.missing_events.contains(&"benefit.updated".to_owned()),
        "{noted:?}"
    );
    assert_eq!(app.command(&["endpoint", "enable"]).await.code, Some(0));
    app.work_until_idle().await;
    let noted = app.noted().await;
    assert!(noted.missing_events.is_empty() && !noted.gap, "{noted:?}");
    assert_eq!(app.plan().await, "Pro");
    let events = app.endpoints().await[0]["events"].to_string();
    assert!(
        events.contains("order.refunded"),
        "what somebody wanted stays: {events}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_between_two_looks_is_asked_for_by_enable_too() {
    for outage in [
        json!({"enabled": false}),
        json!({"events": ["benefit.updated"]}),
    ] {
        let (app, tenant) = (TestApp::open().await, Tenant::new());
        let member = user();
        app.tell(&[
            tenant.created(),
            tenant.added(&member, "ada@example.com", "member"),
        ])
        .await;
        app.resolve_waits().await;
        app.watch().await;
        assert!(!app.noted().await.gap, "all is well");
        let id = app.endpoints().await[0]["id"].as_str().unwrap().to_owned();
        let endpoint = format!("/v1/webhooks/endpoints/{id}");
        app.at_polar("PATCH", &endpoint, Some(&outage)).await;
        app.simulator
            .purchase(&tenant.id, Product::Pro)
            .await
            .unwrap();
        let at_polar = format!("/v1/customers/external/{}/members/{member}", tenant.id);
        app.at_polar("DELETE", &at_polar, None).await;
        app.work_until_idle().await;
        assert_eq!(app.plan().await, "Free", "{outage}");

        let said = app.command(&["endpoint", "enable"]).await;
        assert_eq!(said.code, Some(0), "{}", said.err);
        app.work_until_idle().await;
        assert_eq!(app.plan().await, "Pro", "{outage}");
        assert!(app.member(&tenant, &member).is_some(), "{outage}");
        let noted = app.noted().await;
        assert!(noted.enabled && !noted.gap, "{outage}: {noted:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn enable_of_an_endpoint_that_delivers_everything_asks_for_nothing() {
    let (app, tenant) = (TestApp::open().await, Tenant::new());
    app.tell(&[tenant.created()]).await;
    app.resolve_waits().await;
    app.watch().await;
    assert_eq!(app.command(&["endpoint", "enable"]).await.code, Some(0));
    app.work_until_idle().await;
    let asked = "SELECT count(*) FROM polar_jobs.jobs WHERE kind IN ('resume_syncs', 'reconcile')";
    assert_eq!(app.count(asked).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_endpoint_at_all_is_a_gap_too() {
    let app = TestApp::open().await;
    // People delete one in Polar's dashboard; its published description has no such operation.
    app.simulator.provoked(1);
    let id = app.endpoints().await[0]["id"].as_str().unwrap().to_owned();
    app.at_polar("DELETE", &format!("/v1/webhooks/endpoints/{id}"), None)
        .await;
    app.watch().await;
    let noted = app.noted().await;
    assert!(!noted.enabled && noted.gap, "{noted:?}");
    assert_eq!(app.command(&["endpoint", "show"]).await.code, Some(1));
}
