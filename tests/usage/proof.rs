//! The proof: green when the books balance, and red for every way in which they do not.

use chrono::{DateTime, TimeDelta, Utc};
use jobs::mirror::usage::prove::{self, Line};
use jobs::{ProveUsage, ask_polar};
use uuid::Uuid;

use crate::stage::{Stage, client, local_polar, run};

async fn lines(stage: &Stage, organization: Uuid) -> Vec<Line> {
    prove::lines(
        &stage.pool,
        organization,
        DateTime::UNIX_EPOCH,
        Utc::now() + TimeDelta::days(1),
    )
    .await
    .unwrap()
}

async fn difference(stage: &Stage) -> String {
    let whole = prove::difference(
        &stage.pool,
        DateTime::UNIX_EPOCH,
        Utc::now() + TimeDelta::days(1),
    )
    .await
    .unwrap();
    whole.normalize().to_string()
}

async fn change(stage: &Stage, statement: &'static str) {
    sqlx::query(statement).execute(&stage.pool).await.unwrap();
}

/// Two windows of one organization, both reported.
async fn settled() -> (Stage, Uuid) {
    let stage = Stage::set().await;
    let organization = stage.organization().await;
    for quantities in [[1, 2], [30, 40]] {
        stage.record(organization, &quantities).await;
        stage.meter().await;
    }
    stage.report().await.unwrap();
    (stage, organization)
}

#[tokio::test]
async fn balanced_books_are_green() {
    let (stage, organization) = settled().await;
    stage.record(organization, &[500]).await;
    let lines = lines(&stage, organization).await;
    let sums: Vec<String> = lines
        .iter()
        .map(|line| line.recorded.unwrap().to_string())
        .collect();
    assert_eq!(sums, ["3", "70"]);
    assert!(lines.iter().all(|line| line.difference().is_none()));
    assert_eq!(lines[0].answer.as_deref(), Some("inserted"));
    assert_eq!(lines[0].request, Some((2, 2, 0)));
    let open = prove::open(&stage.pool, organization).await.unwrap();
    assert_eq!((open.0, open.1.to_string()), (1, "500".to_owned()));
    assert!(prove::chain_faults(&stage.pool).await.unwrap().is_empty());
    assert_eq!(difference(&stage).await, "0");
    run(ProveUsage {}, &stage.context()).await.unwrap();
}

#[tokio::test]
async fn a_count_that_was_tampered_with_is_found() {
    let (stage, organization) = settled().await;
    change(
        &stage,
        "UPDATE polar_jobs.usage_reports SET quantity = quantity + 1 WHERE quantity = 3",
    )
    .await;
    let lines = lines(&stage, organization).await;
    assert_eq!(lines[0].difference().unwrap(), "recorded 3, but counted 4");
    assert_eq!(lines[1].difference(), None);
    assert_eq!(difference(&stage).await, "1");
}

#[tokio::test]
async fn a_lost_reading_a_lost_report_and_a_lost_answer_are_found() {
    let (stage, organization) = settled().await;
    change(&stage, "DELETE FROM polar_jobs.usage WHERE quantity = 2").await;
    change(
        &stage,
        "DELETE FROM polar_jobs.usage_reports WHERE quantity = 70",
    )
    .await;
    let found: Vec<String> = lines(&stage, organization)
        .await
        .iter()
        .map(|line| line.difference().unwrap())
        .collect();
    assert_eq!(
        found,
        ["recorded 1, but counted 3", "recorded, but never counted"]
    );
    assert_eq!(difference(&stage).await, "72");
    change(
        &stage,
        "UPDATE polar_jobs.usage_reports SET quantity = 1, request_id = NULL",
    )
    .await;
    assert_eq!(
        lines(&stage, organization).await[0].difference().unwrap(),
        "reported, but Polar's answer is missing"
    );
}

#[tokio::test]
async fn what_is_not_reported_yet_is_told_apart() {
    let stage = Stage::set().await;
    let (known, unknown) = (stage.organization().await, Uuid::new_v4());
    stage.record(known, &[1]).await;
    stage.record(unknown, &[2]).await;
    stage.meter().await;
    assert_eq!(
        lines(&stage, known).await[0].difference().unwrap(),
        "not reported yet"
    );
    assert_eq!(
        lines(&stage, unknown).await[0].difference().unwrap(),
        "waits for organization.created"
    );
    assert_eq!(difference(&stage).await, "3");
}

#[tokio::test]
async fn a_reading_in_no_window_and_a_broken_chain_are_found() {
    let (stage, _) = settled().await;
    change(
        &stage,
        "UPDATE polar_jobs.usage SET written_by = 3 WHERE quantity = 1",
    )
    .await;
    let faults = prove::chain_faults(&stage.pool).await.unwrap();
    assert_eq!(faults, ["1 readings lie in no window"]);
    change(&stage, "UPDATE polar_jobs.usage_windows SET from_xid = from_xid + 1 WHERE from_xid = (SELECT max(from_xid) FROM polar_jobs.usage_windows)").await;
    assert!(
        prove::chain_faults(&stage.pool).await.unwrap()[0]
            .contains("does not end where the next one starts")
    );
}

#[tokio::test]
async fn polar_is_asked_by_sending_again() {
    let (stage, organization) = settled().await;
    let reports = prove::reported(&stage.pool, organization, DateTime::UNIX_EPOCH, Utc::now())
        .await
        .unwrap();
    let receipt = ask_polar(&stage.polar, &reports).await.unwrap();
    assert_eq!((receipt.inserted, receipt.duplicates), (0, 2));
    assert_eq!(stage.at_polar(organization), 73, "asking changes nothing");
    // A Polar that never heard of them: the gap shows, and is closed.
    let forgetful = local_polar(2).await;
    let receipt = ask_polar(&client(&forgetful), &reports).await.unwrap();
    assert_eq!((receipt.inserted, receipt.duplicates), (2, 0));
    assert_eq!(
        forgetful.event_sum("event_ingestion", &organization.to_string()),
        73
    );
}
