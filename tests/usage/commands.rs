//! `polar-jobs usage` and `polar-jobs costs`, run as people run them.

use std::process::Output;

use chrono::{DateTime, Utc};
use jobs::mirror::usage::record_all;
use serde_json::Value;
use uuid::Uuid;

use crate::product;
use crate::test_app::{TestApp, reading};

fn polar_jobs(app: &TestApp, arguments: &[&str]) -> Output {
    product::polar_jobs(app, arguments).output().unwrap()
}

fn prove(app: &TestApp, organization: Uuid, more: &[&str]) -> (i32, Value) {
    let organization = organization.to_string();
    let arguments = [
        &[
            "usage",
            "prove",
            "--format",
            "json",
            "--organization",
            &organization,
        ],
        more,
    ]
    .concat();
    let output = polar_jobs(app, &arguments);
    let json = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code().unwrap(), json)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_month_is_proven_by_the_windows_that_end_in_it() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    // The last second of October, the first of November, and a reading on its way.
    for quantity in [10, 20] {
        app.record(organization, &[quantity]).await;
        let clock: DateTime<Utc> = "2026-10-31T23:59:59.999999Z".parse().unwrap();
        app.meter_at(clock).await;
    }
    let (code, json) = prove(&app, organization, &["--period", "2026-10"]);
    assert_eq!((code, &json["sums"]["unreported"]), (1, &Value::from("10")));
    app.report().await.unwrap();
    app.record(organization, &[5]).await;
    for (period, sum) in [("2026-10", "10"), ("2026-11", "20"), ("2026-09", "0")] {
        let (code, json) = prove(&app, organization, &["--period", period, "--ask-polar"]);
        assert_eq!((code, &json["holds"]), (0, &Value::from(true)), "{json}");
        assert_eq!(
            (&json["sums"]["recorded"], &json["sums"]["reported"]),
            (&sum.into(), &sum.into())
        );
        assert_eq!(json["sums"]["open"], "5");
    }
    assert_eq!(prove(&app, organization, &["--period", "2026-13"]).0, 2);
    assert_eq!(app.at_polar(organization), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_with_a_token_that_polar_refuses_ends_with_the_reason_and_pauses_nobody() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    app.record(organization, &[10]).await;
    app.meter().await;
    app.report().await.unwrap();
    let organization = organization.to_string();
    let arguments = [
        "usage",
        "prove",
        "--organization",
        &organization,
        "--ask-polar",
    ];
    let output = product::polar_jobs(&app, &arguments)
        .env("POLAR_ACCESS_TOKEN", "polar_oat_of_last_year")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("Polar refuses POLAR_ACCESS_TOKEN of this shell"),
        "{said}"
    );
    let refused: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM polar_jobs.rate_limiter WHERE unauthorized_since IS NOT NULL",
    )
    .fetch_one(&app.pool)
    .await
    .unwrap();
    assert_eq!(refused, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_difference_is_shown_and_ends_with_one() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    app.record(organization, &[10]).await;
    app.meter().await;
    app.report().await.unwrap();
    sqlx::query("UPDATE polar_jobs.usage_reports SET quantity = 9")
        .execute(&app.pool)
        .await
        .unwrap();
    let period = Utc::now().format("%Y-%m").to_string();
    let organization = organization.to_string();
    let output = polar_jobs(
        &app,
        &[
            "usage",
            "prove",
            "--organization",
            &organization,
            "--period",
            &period,
        ],
    );
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("recorded 10, but counted 9"), "{text}");
    assert!(text.contains("it does not add up"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_one_array_and_bulk_actions_ask_first() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    app.record(organization, &[7]).await;
    app.meter().await;
    sqlx::query("SELECT polar_jobs.record_cost($1, 'compass_assistant', cost_usd => 0.0123)")
        .bind(organization)
        .execute(&app.pool)
        .await
        .unwrap();
    let list = |what: &'static str| {
        let output = polar_jobs(&app, &[what, "list", "--format", "json"]);
        serde_json::from_slice::<Vec<Value>>(&output.stdout).unwrap()
    };
    assert_eq!(
        (list("usage").len(), &list("usage")[0]["quantity"]),
        (1, &Value::from(7))
    );
    assert_eq!(list("costs")[0]["cost_usd"], "0.0123");

    sqlx::query("UPDATE polar_jobs.usage_reports SET state = 'refused', reason = 'a test'")
        .execute(&app.pool)
        .await
        .unwrap();
    let asked = polar_jobs(&app, &["usage", "retry"]);
    assert_eq!(asked.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&asked.stderr).contains("1 report would be sent again"));
    assert_eq!(
        polar_jobs(&app, &["usage", "retry", "--yes"]).status.code(),
        Some(0)
    );
    assert_eq!(app.reports(organization, "frozen").await, 1);
    let begun = polar_jobs(&app, &["usage", "begin", "--since", "2026-11-01"]);
    assert_eq!(begun.status.code(), Some(0), "{begun:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adoption_does_not_keep_the_application_from_writing_for_long() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    let mut open = app.pool.begin().await.unwrap();
    record_all(&mut open, &[reading(organization, 1)])
        .await
        .unwrap();
    let refused = polar_jobs(&app, &["usage", "adopt"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("is still under way"), "{said}");
    open.commit().await.unwrap();
    assert!(polar_jobs(&app, &["usage", "adopt"]).status.success());
}
