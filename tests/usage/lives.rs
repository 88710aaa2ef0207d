//! Usage and costs belong to a life of their organization: what was recorded before its deletion is
//! reported, and before its customer goes; what was recorded after it is not; and a new life waits for
//! a customer of its own.

use std::time::{Duration, Instant};

use jobs::SyncCustomer;
use jobs::types::OrganizationId;
use serde_json::{Value, json};
use simulator::{Product, RequestMatch};
use sqlx::PgPool;
use uuid::Uuid;

use crate::product::{cost, creation, drain, enqueue_reports, tell, usage};
use crate::test_app::{TestApp, run};
use crate::wait::eventually;

const DEADLINE: Duration = Duration::from_secs(120);

async fn record(pool: &PgPool, organization: Uuid, quantity: i64) {
    tell(pool, "usage.recorded", usage(organization, quantity)).await;
    tell(
        pool,
        "cost.recorded",
        cost(organization, &format!("run-{quantity}")),
    )
    .await;
}

/// An organization with a customer at Polar.
async fn living(app: &TestApp) -> Uuid {
    let organization = Uuid::new_v4();
    tell(&app.pool, "organization.created", creation(organization)).await;
    drain(app).await;
    organization
}

async fn unfinished(app: &TestApp, organization: Uuid) -> i64 {
    sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM polar_jobs.usage_reports WHERE state IN ('frozen', 'waiting') AND organization_id = $1)
              + (SELECT count(*) FROM polar_jobs.costs WHERE state = 'waiting' AND organization_id = $1)
              + (SELECT count(*) FROM polar_jobs.organizations WHERE id = $1 AND erasure_event IS NOT NULL)",
    )
    .bind(organization)
    .fetch_one(&app.pool)
    .await
    .unwrap()
}

/// What became of each cost, in the order in which they were recorded.
async fn costs(app: &TestApp) -> Vec<String> {
    sqlx::query_scalar("SELECT state FROM polar_jobs.costs ORDER BY id")
        .fetch_all(&app.pool)
        .await
        .unwrap()
}

/// Works until everything about the organization is done.
async fn finish(app: &TestApp, organization: Uuid) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        enqueue_reports(app).await;
        drain(app).await;
        let (uncounted, unfinished) = (app.uncounted().await, unfinished(app, organization).await);
        if (uncounted, unfinished) == (0, 0) {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{uncounted} readings and {unfinished} others are not done"
        );
    }
}

/// Where in the order of Polar's requests something of the organization's is.
fn request(app: &TestApp, what: &str, holds: impl Fn(&str, &Value) -> bool) -> usize {
    let requests = app.simulator.requests();
    requests
        .iter()
        .position(|request| {
            holds(
                &format!("{} {}", request.method, request.path),
                &request.body,
            )
        })
        .unwrap_or_else(|| panic!("Polar never got {what}"))
}

fn ingest_of(app: &TestApp, what: &str) -> usize {
    request(app, what, |route, body| {
        route == "POST /v1/events/ingest" && body.to_string().contains(what)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn each_life_reports_to_its_own_customer_and_the_time_between_to_nobody() {
    let app = TestApp::start().await;
    let organization = living(&app).await;
    record(&app.pool, organization, 5).await;
    tell(
        &app.pool,
        "organization.deleted",
        json!({ "id": organization }),
    )
    .await;
    record(&app.pool, organization, 70).await;
    tell(&app.pool, "organization.created", creation(organization)).await;
    record(&app.pool, organization, 900).await;
    finish(&app, organization).await;

    assert_eq!(app.at_polar(organization), 905);
    let deleted = request(&app, "the deletion", |route, _| {
        route.starts_with("DELETE /v1/customers/")
    });
    let made = app.simulator.requests();
    let made = made
        .iter()
        .rposition(|request| request.method == "POST" && request.path == "/v1/customers/")
        .unwrap();
    assert!(ingest_of(&app, "\"count\":5") < deleted && ingest_of(&app, "run-5") < deleted);
    assert!(deleted < made);
    assert!(made < ingest_of(&app, "\"count\":900") && made < ingest_of(&app, "run-900"));
    assert_eq!(costs(&app).await, ["reported", "skipped", "reported"]);
    let faults = jobs::mirror::usage::prove::chain_faults(&app.pool)
        .await
        .unwrap();
    assert!(faults.is_empty(), "{faults:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_recorded_while_the_deleting_transaction_did_other_work_is_reported() {
    let app = TestApp::start().await;
    let organization = living(&app).await;
    let mut open = app.pool.begin().await.unwrap();
    sqlx::query("SELECT 1").execute(&mut *open).await.unwrap();
    record(&app.pool, organization, 5).await;
    let deleted = json!({ "id": organization });
    tell(&mut *open, "organization.deleted", deleted).await;
    open.commit().await.unwrap();
    record(&app.pool, organization, 70).await;
    finish(&app, organization).await;
    assert_eq!(app.at_polar(organization), 5);
    assert_eq!(costs(&app).await, ["reported", "skipped"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_used_in_the_transaction_that_begins_a_new_life_belongs_to_it() {
    let app = TestApp::start().await;
    let organization = living(&app).await;
    let mut open = app.pool.begin().await.unwrap();
    let deleted = json!({ "id": organization });
    tell(&mut *open, "organization.deleted", deleted).await;
    tell(&mut *open, "organization.created", creation(organization)).await;
    tell(&mut *open, "usage.recorded", usage(organization, 900)).await;
    tell(&mut *open, "cost.recorded", cost(organization, "run-900")).await;
    open.commit().await.unwrap();
    finish(&app, organization).await;
    assert_eq!(costs(&app).await, ["reported"]);
    let requests = app.simulator.requests();
    let made = requests
        .iter()
        .rposition(|request| request.method == "POST" && request.path == "/v1/customers/");
    assert!(made.unwrap() < ingest_of(&app, "\"count\":900"));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_lives_at_once_are_told_apart() {
    let app = TestApp::start().await;
    let organization = living(&app).await;
    for life in 0..4 {
        record(&app.pool, organization, 1 + life * 10).await;
        tell(
            &app.pool,
            "organization.deleted",
            json!({ "id": organization }),
        )
        .await;
        record(&app.pool, organization, 1000 + life).await;
        tell(&app.pool, "organization.created", creation(organization)).await;
    }
    record(&app.pool, organization, 500).await;
    finish(&app, organization).await;
    assert_eq!(app.at_polar(organization), 1 + 11 + 21 + 31 + 500);
    let reported: i64 =
        sqlx::query_scalar("SELECT count(*) FROM polar_jobs.costs WHERE state = 'reported'")
            .fetch_one(&app.pool)
            .await
            .unwrap();
    assert_eq!(reported, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_stays_while_usage_from_before_may_still_be_committed() {
    let app = TestApp::start().await;
    let organization = living(&app).await;
    let mut open = app.pool.begin().await.unwrap();
    tell(&mut *open, "usage.recorded", usage(organization, 5)).await;
    tell(
        &app.pool,
        "organization.deleted",
        json!({ "id": organization }),
    )
    .await;
    enqueue_reports(&app).await;
    drain(&app).await;
    let deletes = || {
        let requests = app.simulator.requests();
        requests
            .iter()
            .filter(|request| request.method == "DELETE")
            .count()
    };
    assert_eq!(
        deletes(),
        0,
        "somebody may still commit what was recorded before"
    );
    open.commit().await.unwrap();
    finish(&app, organization).await;
    assert_eq!((app.at_polar(organization), deletes()), (5, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_waits_until_polar_has_answered_for_the_last_counts() {
    let app = TestApp::start().await;
    let organization = living(&app).await;
    record(&app.pool, organization, 5).await;
    let held = app.simulator.hold(RequestMatch::path("/v1/events/ingest"));
    tell(
        &app.pool,
        "organization.deleted",
        json!({ "id": organization }),
    )
    .await;
    let worker = crate::product::Worker::start(&app);
    assert!(
        held.wait_for(1, Duration::from_secs(60)).await,
        "the deletion closes the window by itself"
    );
    let polar_knows: bool = sqlx::query_scalar("SELECT polar_jobs.unreported_before_deletion($1)")
        .bind(organization)
        .fetch_one(&app.pool)
        .await
        .unwrap();
    assert!(polar_knows);
    assert!(
        app.simulator
            .requests()
            .iter()
            .all(|request| request.method != "DELETE")
    );
    held.release_all();
    drop(held);
    eventually("the customer is gone", async || {
        unfinished(&app, organization).await == 0
    })
    .await;
    drop(worker);
    assert_eq!(app.at_polar(organization), 5);
    let deleted = request(&app, "the deletion", |route, _| {
        route.starts_with("DELETE /v1/customers/")
    });
    assert!(ingest_of(&app, "\"count\":5") < deleted && ingest_of(&app, "run-5") < deleted);
}

/// Whether the only subscription of an organization ends with its period.
fn ends(app: &TestApp, organization: Uuid) -> bool {
    let all = app.simulator.subscriptions(&organization.to_string());
    assert_eq!(all.len(), 1);
    all[0].cancel_at_period_end
}

/// A deletion that waits for long; `anew`: meanwhile the organization lives again.
async fn deleted_late(anew: bool) {
    let app = TestApp::start().await;
    let organization = living(&app).await;
    let external_id = organization.to_string();
    app.simulator
        .purchase(&external_id, Product::Pro)
        .await
        .unwrap();
    let mut open = app.pool.begin().await.unwrap();
    tell(&mut *open, "usage.recorded", usage(organization, 5)).await;
    let deleted = json!({ "id": organization });
    tell(&app.pool, "organization.deleted", deleted).await;
    drain(&app).await;
    if anew {
        tell(&app.pool, "organization.created", creation(organization)).await;
        drain(&app).await;
    }
    assert!(
        !ends(&app, organization),
        "it is mostly a matter of moments"
    );
    let mut context = app.context();
    context.job.attempt = 61;
    let sync = SyncCustomer {
        organization_id: OrganizationId(organization),
    };
    assert!(run(sync, &context).await.is_err(), "the count comes first");
    assert!(ends(&app, organization));
    context.job.attempt = 62;
    let requests = app.simulator.requests().len();
    assert!(run(sync, &context).await.is_err());
    let asked = app.simulator.requests().len() - requests;
    assert_eq!(asked, 0, "Polar is asked once an hour");
    open.commit().await.unwrap();
    finish(&app, organization).await;
    assert_eq!(app.at_polar(organization), 5);
    assert_eq!(app.simulator.customer(&external_id).is_some(), anew);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_last_counts_are_reported_late_nobody_pays_for_another_period() {
    deleted_late(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_does_who_has_created_the_organization_anew_meanwhile() {
    deleted_late(true).await;
}

#[tokio::test]
async fn usage_recorded_after_a_deletion_that_is_not_applied_yet_waits_for_it() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    app.record(organization, &[1]).await;
    tell(
        &app.pool,
        "organization.deleted",
        json!({ "id": organization }),
    )
    .await;
    app.record(organization, &[10]).await;
    eventually("what was recorded before is counted", async || {
        run(jobs::MeterUsage {}, &app.context()).await.unwrap();
        app.reports(organization, "frozen").await == 1
    })
    .await;
    app.report().await.unwrap();
    assert_eq!(app.at_polar(organization), 1);
    assert_eq!(app.uncounted().await, 1);
}

#[tokio::test]
async fn a_life_without_a_customer_waits_for_it() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    let customer = async |statement: &'static str| {
        sqlx::query(statement).execute(&app.pool).await.unwrap();
    };
    customer("UPDATE polar_jobs.organizations SET polar_customer_id = NULL").await;
    app.record(organization, &[3]).await;
    app.meter().await;
    app.report().await.unwrap();
    assert_eq!(app.at_polar(organization), 0);
    customer("UPDATE polar_jobs.organizations SET polar_customer_id = gen_random_uuid()").await;
    app.report().await.unwrap();
    assert_eq!(app.at_polar(organization), 3);
}
