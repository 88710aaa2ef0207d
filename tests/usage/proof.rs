//! The proof: green when the books balance, and red for every way in which they do not.

use chrono::{DateTime, TimeDelta, Utc};
use jobs::mirror::usage::prove::{self, AnsweredRequest, AuditedWindow, ReportState};
use jobs::{ProveUsage, ask_polar};
use uuid::Uuid;

use crate::test_app::{TestApp, client, local_polar, run};

async fn windows(app: &TestApp, organization: Uuid) -> Vec<AuditedWindow> {
    prove::windows(
        &app.pool,
        organization,
        DateTime::UNIX_EPOCH,
        Utc::now() + TimeDelta::days(1),
    )
    .await
    .unwrap()
}

async fn difference(app: &TestApp) -> String {
    let whole = prove::difference(
        &app.pool,
        DateTime::UNIX_EPOCH,
        Utc::now() + TimeDelta::days(1),
    )
    .await
    .unwrap();
    whole.normalize().to_string()
}

async fn change(app: &TestApp, statement: &'static str) {
    sqlx::query(statement).execute(&app.pool).await.unwrap();
}

/// Two windows of one organization, both reported.
async fn reported() -> (TestApp, Uuid) {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    for quantities in [[1, 2], [30, 40]] {
        app.record(organization, &quantities).await;
        app.meter().await;
    }
    app.report().await.unwrap();
    (app, organization)
}

#[tokio::test]
async fn balanced_books_are_green() {
    let (app, organization) = reported().await;
    app.record(organization, &[500]).await;
    let windows = windows(&app, organization).await;
    let recounts = windows.iter().flat_map(|window| &window.recount);
    let sums: Vec<String> = recounts
        .map(|recount| recount.quantity.to_string())
        .collect();
    assert_eq!(sums, ["3", "70"]);
    assert!(windows.iter().all(|window| window.difference().is_none()));
    let ReportState::Reported {
        answer, request, ..
    } = &windows[0].report.as_ref().unwrap().state
    else {
        panic!("{windows:?}");
    };
    assert_eq!(answer.as_deref(), Some("inserted"));
    let both = AnsweredRequest {
        sent: 2,
        inserted: 2,
        duplicates: 0,
    };
    assert_eq!(*request, Some(both));
    let open = prove::open(&app.pool, organization).await.unwrap();
    assert_eq!(
        (open.readings, open.quantity.to_string()),
        (1, "500".to_owned())
    );
    assert!(prove::chain_faults(&app.pool).await.unwrap().is_empty());
    assert_eq!(difference(&app).await, "0");
}

#[tokio::test]
async fn a_proof_that_finds_nothing_takes_the_place_of_one_that_did() {
    let (app, _) = reported().await;
    // A night proves the last two days, but for what may still be on its way.
    sqlx::raw_sql(
        "SET session_replication_role = replica;
         UPDATE polar_jobs.usage_windows
            SET window_end = window_end - interval '2 hours', event_timestamp = event_timestamp - interval '2 hours';
         UPDATE polar_jobs.usage_reports SET window_end = window_end - interval '2 hours';
         SET session_replication_role = origin",
    )
    .execute(&app.pool)
    .await
    .unwrap();
    let found = async || {
        run(ProveUsage {}, &app.context()).await.unwrap();
        let last = prove::last(&app.pool).await.unwrap().unwrap();
        (last.difference.to_string(), last.window_faults)
    };
    assert_eq!(found().await, ("0".to_owned(), 0));
    change(
        &app,
        "UPDATE polar_jobs.usage_reports SET quantity = 4 WHERE quantity = 3",
    )
    .await;
    assert_eq!(found().await, ("1".to_owned(), 0));
    change(
        &app,
        "UPDATE polar_jobs.usage_reports SET quantity = 3 WHERE quantity = 4",
    )
    .await;
    assert_eq!(found().await, ("0".to_owned(), 0));
}

#[tokio::test]
async fn a_count_that_was_tampered_with_is_found() {
    let (app, organization) = reported().await;
    change(
        &app,
        "UPDATE polar_jobs.usage_reports SET quantity = quantity + 1 WHERE quantity = 3",
    )
    .await;
    let windows = windows(&app, organization).await;
    assert_eq!(
        windows[0].difference().unwrap(),
        "recorded 3, but counted 4"
    );
    assert_eq!(windows[1].difference(), None);
    assert_eq!(difference(&app).await, "1");
}

#[tokio::test]
async fn a_lost_reading_a_lost_report_and_a_lost_answer_are_found() {
    let (app, organization) = reported().await;
    change(&app, "DELETE FROM polar_jobs.usage WHERE quantity = 2").await;
    change(
        &app,
        "DELETE FROM polar_jobs.usage_reports WHERE quantity = 70",
    )
    .await;
    let found: Vec<String> = windows(&app, organization)
        .await
        .iter()
        .map(|window| window.difference().unwrap())
        .collect();
    assert_eq!(
        found,
        ["recorded 1, but counted 3", "recorded, but never counted"]
    );
    assert_eq!(difference(&app).await, "72");
    change(
        &app,
        "UPDATE polar_jobs.usage_reports SET quantity = 1, request_id = NULL",
    )
    .await;
    assert_eq!(
        windows(&app, organization).await[0].difference().unwrap(),
        "reported, but Polar's answer is missing"
    );
}

#[tokio::test]
async fn what_is_not_reported_yet_is_told_apart() {
    let app = TestApp::start().await;
    let (known, unknown) = (app.organization().await, Uuid::new_v4());
    app.record(known, &[1]).await;
    app.record(unknown, &[2]).await;
    app.meter().await;
    assert_eq!(
        windows(&app, known).await[0].difference().unwrap(),
        "not reported yet"
    );
    assert_eq!(
        windows(&app, unknown).await[0].difference().unwrap(),
        "waits for organization.created"
    );
    assert_eq!(difference(&app).await, "3");
}

#[tokio::test]
async fn a_reading_in_no_window_and_a_broken_chain_are_found() {
    let (app, _) = reported().await;
    change(
        &app,
        "UPDATE polar_jobs.usage SET written_by = 3 WHERE quantity = 1",
    )
    .await;
    let faults = prove::chain_faults(&app.pool).await.unwrap();
    assert_eq!(faults, ["1 readings lie in no window"]);
    change(&app, "UPDATE polar_jobs.usage_windows SET from_xid = from_xid + 1 WHERE from_xid = (SELECT max(from_xid) FROM polar_jobs.usage_windows)").await;
    assert!(
        prove::chain_faults(&app.pool).await.unwrap()[0]
            .contains("does not end where the next one starts")
    );
}

#[tokio::test]
async fn polar_is_asked_by_sending_again() {
    let (app, organization) = reported().await;
    let reports = prove::reported(
        &app.pool,
        organization,
        DateTime::UNIX_EPOCH,
        Utc::now() + TimeDelta::days(1),
    )
    .await
    .unwrap();
    let receipt = ask_polar(&app.polar, &reports).await.unwrap();
    assert_eq!((receipt.inserted, receipt.duplicates), (0, 2));
    assert_eq!(app.at_polar(organization), 73, "asking changes nothing");
    // A Polar that never got them: the gap shows, and is closed.
    let forgetful = local_polar(2).await;
    let receipt = ask_polar(&client(&forgetful), &reports).await.unwrap();
    assert_eq!((receipt.inserted, receipt.duplicates), (2, 0));
    assert_eq!(
        forgetful.event_sum("event_ingestion", &organization.to_string()),
        73
    );
}
