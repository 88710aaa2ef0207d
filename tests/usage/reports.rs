//! Reporting: frozen counts only, identical on every resend, nobody held up by somebody else.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use jobs::contract::{Outcome, Verdict};
use jobs::{MeterUsage, ReportCosts, ReportUsage};
use serde_json::{Value, json};
use simulator::{Faults, RequestMatch};

use crate::test_app::{TestApp, client_of, context, run};
use crate::wait::eventually;

const TIMEOUT: Duration = Duration::from_secs(10);

fn ingested(app: &TestApp) -> Vec<Value> {
    let requests = app.simulator.requests();
    requests
        .into_iter()
        .filter(|request| request.path == "/v1/events/ingest")
        .map(|request| request.body)
        .collect()
}

#[tokio::test]
async fn the_event_is_the_one_polar_expects() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    app.record(organization, &[3, 4]).await;
    let clock = "2026-08-14T09:12:09.640112Z".parse().unwrap();
    app.meter_at(clock).await;
    app.report().await.unwrap();
    let expected = json!({ "events": [{
        "name": "event_ingestion",
        "external_customer_id": organization,
        "external_id": format!("events_ingested-{organization}-1786698729"),
        "timestamp": "2026-08-14T09:12:09Z",
        "metadata": { "count": 7 } }] });
    assert_eq!(ingested(&app), [expected]);
    assert_eq!(app.reports(organization, "reported").await, 1);
}

#[tokio::test]
async fn nothing_counted_means_no_call() {
    let app = TestApp::start().await;
    app.report().await.unwrap();
    assert_eq!(app.ingest_requests(), 0);
}

#[tokio::test]
async fn five_thousand_organizations_travel_in_ten_requests() {
    let app = TestApp::start().await;
    sqlx::query(
        "INSERT INTO polar_jobs.organizations (id, name, slug, status, event_id, polar_customer_id)
         SELECT gen_random_uuid(), 'n', 's', 'active', 0, gen_random_uuid() FROM generate_series(1, 5000)",
    )
    .execute(&app.pool)
    .await
    .unwrap();
    sqlx::query("INSERT INTO polar_jobs.usage (organization_id, quantity) SELECT id, 2 FROM polar_jobs.organizations")
        .execute(&app.pool)
        .await
        .unwrap();
    app.meter().await;
    app.report().await.unwrap();
    assert_eq!(app.ingest_requests(), 10);
    for body in ingested(&app) {
        let ids: Vec<&str> = body["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| e["external_id"].as_str().unwrap())
            .collect();
        assert!(
            ids.len() <= 500 && ids.is_sorted(),
            "sorted, because unordered requests can deadlock at Polar"
        );
    }
    let (sent, accounted): (i64, i64) =
        sqlx::query_as("SELECT sum(sent)::bigint, sum(inserted + duplicates)::bigint FROM polar_jobs.usage_requests")
            .fetch_one(&app.pool)
            .await
            .unwrap();
    assert_eq!((sent, accounted), (5000, 5000));
}

#[tokio::test]
async fn after_a_lost_answer_the_resend_is_identical_and_counts_once() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    app.record(organization, &[5]).await;
    app.meter().await;
    app.simulator.set_faults(Faults {
        drop_after: 1.0,
        ..Faults::default()
    });
    let lost = app.report().await.unwrap_err();
    assert!(matches!(lost.verdict(), Verdict::Retry { .. }), "{lost}");
    assert_eq!(app.reports(organization, "frozen").await, 1);
    app.simulator.set_faults(Faults::default());
    app.report().await.unwrap();
    let bodies = ingested(&app);
    assert_eq!(bodies.len(), 2);
    assert_eq!(bodies[0], bodies[1]);
    assert_eq!(app.at_polar(organization), 5);
    let answer: String = sqlx::query_scalar(
        "SELECT answer FROM polar_jobs.usage_reports WHERE organization_id = $1",
    )
    .bind(organization)
    .fetch_one(&app.pool)
    .await
    .unwrap();
    assert_eq!(answer, "duplicate", "Polar said that it knew the event");
}

#[tokio::test]
async fn a_process_that_dies_between_polars_commit_and_ours_loses_nothing() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    app.record(organization, &[6]).await;
    app.meter().await;
    let held = app
        .simulator
        .hold(RequestMatch::path("/v1/events/ingest").after_commit());
    let context = app.context();
    let dying = tokio::spawn(async move { run(ReportUsage {}, &context).await });
    assert!(held.wait_for(1, TIMEOUT).await);
    dying.abort();
    assert!(dying.await.unwrap_err().is_cancelled());
    held.release_all();
    assert_eq!(app.at_polar(organization), 6);
    assert_eq!(app.reports(organization, "frozen").await, 1);
    app.report().await.unwrap();
    assert_eq!(app.at_polar(organization), 6);
    assert_eq!(app.reports(organization, "reported").await, 1);
}

#[tokio::test]
async fn two_reporters_at_once_count_once() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    app.record(organization, &[8]).await;
    app.meter().await;
    let held = app.simulator.hold(RequestMatch::path("/v1/events/ingest"));
    let (one, two) = (app.context(), app.context());
    let both = async { tokio::join!(run(ReportUsage {}, &one), run(ReportUsage {}, &two)) };
    let open = async {
        assert!(held.wait_for(2, TIMEOUT).await, "both send");
        held.release_all();
    };
    let ((one, two), ()) = tokio::join!(both, open);
    one.unwrap();
    two.unwrap();
    assert_eq!(app.at_polar(organization), 8);
    let (inserted, duplicates): (i64, i64) = sqlx::query_as(
        "SELECT sum(inserted)::bigint, sum(duplicates)::bigint FROM polar_jobs.usage_requests",
    )
    .fetch_one(&app.pool)
    .await
    .unwrap();
    assert_eq!((inserted, duplicates), (1, 1));
}

#[tokio::test]
async fn a_refused_event_is_taken_out_and_the_others_go_through() {
    let app = TestApp::start().await;
    let mut organizations = Vec::new();
    for _ in 0..40 {
        let organization = app.organization().await;
        app.record(organization, &[2]).await;
        organizations.push(organization);
    }
    app.meter().await;
    // Only a broken row makes an event that Polar refuses: here one without an id it can hold.
    let bad = organizations[17];
    sqlx::query("UPDATE polar_jobs.usage_reports SET external_id = repeat('x', 11000000) WHERE organization_id = $1")
        .bind(bad)
        .execute(&app.pool)
        .await
        .unwrap();
    app.report().await.unwrap();
    for organization in &organizations {
        let expected = if *organization == bad { 0 } else { 2 };
        assert_eq!(app.at_polar(*organization), expected);
    }
    let reason: String =
        sqlx::query_scalar("SELECT reason FROM polar_jobs.usage_reports WHERE organization_id = $1 AND state = 'refused'")
            .bind(bad)
            .fetch_one(&app.pool)
            .await
            .unwrap();
    assert!(reason.contains("413"), "{reason}");

    // Once its cause is repaired it goes, on command.
    sqlx::query(
        "UPDATE polar_jobs.usage_reports SET external_id = 'repaired' WHERE organization_id = $1",
    )
    .bind(bad)
    .execute(&app.pool)
    .await
    .unwrap();
    assert_eq!(
        jobs::mirror::usage::retry_refused(&app.pool, Some(bad))
            .await
            .unwrap(),
        1
    );
    app.report().await.unwrap();
    assert_eq!(app.at_polar(bad), 2);
}

#[tokio::test]
async fn an_event_ahead_of_polars_clock_waits_and_holds_up_nobody() {
    let app = TestApp::start().await;
    let (early, right) = (app.organization().await, app.organization().await);
    app.record(right, &[1]).await;
    app.meter().await;
    app.record(early, &[2]).await;
    app.meter_at(Utc::now() + TimeDelta::minutes(5)).await;
    let wait = app.report().await.unwrap_err();
    assert!(matches!(wait.verdict(), Verdict::Wait { .. }), "{wait}");
    assert_eq!((app.at_polar(early), app.at_polar(right)), (0, 1));
    app.simulator.advance(TimeDelta::minutes(6)).await;
    app.report().await.unwrap();
    assert_eq!(app.at_polar(early), 2);
}

#[tokio::test]
async fn a_window_that_closed_while_the_clock_was_far_ahead_is_reported_all_the_same() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    app.record(organization, &[2]).await;
    app.meter_at(Utc::now() + TimeDelta::days(365)).await;
    app.report().await.unwrap();
    assert_eq!(app.at_polar(organization), 2);
    // Later windows are named after it, and none is late because of that.
    app.record(organization, &[3]).await;
    app.meter().await;
    app.report().await.unwrap();
    assert_eq!(app.at_polar(organization), 5);
}

#[tokio::test]
async fn polars_refusals_to_serve_wait_and_use_up_nothing() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    app.record(organization, &[1]).await;
    app.meter().await;
    app.simulator.set_faults(Faults {
        too_many_requests: 1.0,
        retry_after: 7,
        ..Faults::default()
    });
    let limited = app.report().await.unwrap_err();
    assert!(
        matches!(limited.verdict(), Verdict::Wait { after, .. } if after == Duration::from_secs(7)),
        "{limited}"
    );
    app.simulator.set_faults(Faults {
        error_before: 1.0,
        ..Faults::default()
    });
    assert!(matches!(
        app.report().await.unwrap_err().verdict(),
        Verdict::Retry { .. }
    ));
    assert_eq!(app.reports(organization, "frozen").await, 1);
    app.simulator.set_faults(Faults::default());
    app.report().await.unwrap();
    assert_eq!(app.at_polar(organization), 1);
}

#[tokio::test]
async fn the_self_organization_is_never_metered() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    app.create(app.self_organization).await;
    app.record(app.self_organization, &[50]).await;
    app.record(organization, &[1]).await;
    // Counted while nobody had said yet who we are.
    eventually("the readings are counted", async || {
        run(MeterUsage {}, &context(&app.pool, None, None))
            .await
            .unwrap();
        app.uncounted().await == 0
    })
    .await;
    app.record(app.self_organization, &[60]).await;
    app.meter().await;
    app.report().await.unwrap();
    assert_eq!(app.at_polar(app.self_organization), 0);
    assert_eq!(app.at_polar(organization), 1);
    assert_eq!(app.reports(app.self_organization, "excluded").await, 2);
}

#[tokio::test]
async fn usage_of_an_organization_not_created_yet_waits_for_it() {
    let app = TestApp::start().await;
    let (known, later, never) = (
        app.organization().await,
        uuid::Uuid::new_v4(),
        uuid::Uuid::new_v4(),
    );
    for organization in [known, later, never] {
        app.record(organization, &[4]).await;
    }
    app.meter().await;
    app.report().await.unwrap();
    assert_eq!(
        (
            app.at_polar(known),
            app.at_polar(later),
            app.at_polar(never)
        ),
        (4, 0, 0)
    );
    app.create(later).await;
    app.report().await.unwrap();
    assert_eq!((app.at_polar(later), app.at_polar(never)), (4, 0));
    assert_eq!(app.reports(never, "waiting").await, 1);
}

#[tokio::test]
async fn a_large_backlog_goes_on_in_a_job_that_follows() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    app.record(organization, &[1]).await;
    app.meter().await;
    sqlx::query(
        "WITH w AS (INSERT INTO polar_jobs.usage_windows (window_end, from_xid, to_xid, event_timestamp, readings)
             SELECT t, 1, 2, t, 1 FROM generate_series('2026-01-01'::timestamptz, '2026-01-01 03:00', '1 second') t
             RETURNING window_end)
         INSERT INTO polar_jobs.usage_reports (window_end, organization_id, quantity, readings, external_id, state)
         SELECT window_end, $1, 1, 1, 'b-' || window_end, 'frozen' FROM w",
    )
    .bind(organization)
    .execute(&app.pool)
    .await
    .unwrap();
    let done = jobs::Job::run(ReportUsage {}, &app.context())
        .await
        .unwrap();
    assert_eq!(done.next.len(), 1);
    assert_eq!(app.ingest_requests(), 20);
    let done = jobs::Job::run(ReportUsage {}, &app.context())
        .await
        .unwrap();
    assert_eq!((done.outcome, done.next.len()), (Outcome::Applied, 0));
    assert_eq!(app.at_polar(organization), 10_802);
}

/// What stands between us and Polar and answers for it.
async fn gateway(polars_version: bool) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answers = axum::Router::new().fallback(move || async move {
        let version = polars_version.then_some([("polar-version", polar::API_VERSION)]);
        let maintenance = axum::Json(json!({ "message": "maintenance" }));
        (version.map(axum::response::AppendHeaders), maintenance)
    });
    tokio::spawn(async move { axum::serve(listener, answers).await });
    format!("http://{address}")
}

#[tokio::test]
async fn a_success_that_is_not_polars_receipt_refuses_nothing() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    app.record(organization, &[3]).await;
    app.record(organization, &[4]).await;
    app.meter().await;
    sqlx::query("INSERT INTO polar_jobs.costs (organization_id, source, cost_usd) VALUES ($1, 'crawler', 1)")
        .bind(organization)
        .execute(&app.pool)
        .await
        .unwrap();
    for polars_version in [false, true] {
        let client = client_of(gateway(polars_version).await, "polar_oat_test");
        let context = context(&app.pool, Some(client), Some(app.self_organization));
        let usage = run(ReportUsage {}, &context).await.unwrap_err();
        assert!(matches!(usage.verdict(), Verdict::Retry { .. }), "{usage}");
        let costs = run(ReportCosts {}, &context).await.unwrap_err();
        assert!(matches!(costs.verdict(), Verdict::Retry { .. }), "{costs}");
    }
    app.report().await.unwrap();
    app.report_costs().await.unwrap();
    assert_eq!(app.at_polar(organization), 7);
    let reported = "SELECT state FROM polar_jobs.costs";
    let state: String = sqlx::query_scalar(reported)
        .fetch_one(&app.pool)
        .await
        .unwrap();
    assert_eq!(state, "reported");
}
