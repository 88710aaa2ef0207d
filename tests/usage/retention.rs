//! Retention: readings go by the day, reports are folded into months, and the books still balance.

use chrono::{DateTime, TimeDelta, Utc};
use jobs::Prune;
use jobs::mirror::usage::{self, prove};
use uuid::Uuid;

use crate::test_app::{TestApp, reading, run};
use crate::wait::eventually;

/// Everything that is in the tables happened so many days earlier.
async fn age(app: &TestApp, days: i32) {
    let mut transaction = app.pool.begin().await.unwrap();
    for statement in [
        // A row that moves to another partition is no new reading.
        "SET LOCAL polar_jobs.external_ids_kept = 'on'",
        "UPDATE polar_jobs.usage SET written_at = written_at - make_interval(days => $1)",
        "UPDATE polar_jobs.usage_external_ids SET written_at = written_at - make_interval(days => $1)",
        "ALTER TABLE polar_jobs.usage_reports DROP CONSTRAINT IF EXISTS usage_reports_window_end_fkey",
        "UPDATE polar_jobs.usage_windows
            SET window_end = window_end - make_interval(days => $1), closed_at = closed_at - make_interval(days => $1),
                event_timestamp = event_timestamp - make_interval(days => $1)",
        "UPDATE polar_jobs.usage_reports
            SET window_end = window_end - make_interval(days => $1), reported_at = reported_at - make_interval(days => $1)",
        "UPDATE polar_jobs.usage_requests SET answered_at = answered_at - make_interval(days => $1)",
    ] {
        let mut query = sqlx::query(statement);
        if statement.contains("$1") {
            query = query.bind(days);
        }
        query.execute(&mut *transaction).await.unwrap();
    }
    transaction.commit().await.unwrap();
}

async fn number(app: &TestApp, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement)
        .fetch_one(&app.pool)
        .await
        .unwrap()
}

async fn partition_of(app: &TestApp, days: i32) {
    let make = "SELECT polar_jobs.create_partition('usage', 'fillfactor = 100', 'written_at', current_date - $1)";
    sqlx::query(make)
        .bind(days)
        .execute(&app.pool)
        .await
        .unwrap();
}

/// The reports of an organization were not sent but ended like this.
async fn end_reports(app: &TestApp, organization: Uuid, state: &str) {
    let end = "UPDATE polar_jobs.usage_reports SET state = $2, reason = 'a test', reported_at = NULL WHERE organization_id = $1";
    sqlx::query(end)
        .bind(organization)
        .bind(state)
        .execute(&app.pool)
        .await
        .unwrap();
}

async fn windows(app: &TestApp, organization: Uuid) -> Vec<prove::AuditedWindow> {
    let until = Utc::now() + TimeDelta::days(1);
    prove::windows(&app.pool, organization, DateTime::UNIX_EPOCH, until)
        .await
        .unwrap()
}

fn quantities(windows: &[prove::AuditedWindow]) -> Vec<Option<i64>> {
    let reports = windows.iter().map(|window| window.report.as_ref());
    reports
        .map(|report| report.map(|report| report.quantity))
        .collect()
}

const READINGS: &str = "SELECT count(*) FROM polar_jobs.usage";
/// Partitions of old days. One of a day to come is made too when the database was made the day before.
const PARTITIONS: &str = "SELECT count(*) FROM pg_inherits
      WHERE inhparent = 'polar_jobs.usage'::regclass AND inhrelid::regclass::text ~ '_[0-9]{8}$'
        AND to_date(right(inhrelid::regclass::text, 8), 'YYYYMMDD') < current_date - 30";

#[tokio::test]
async fn a_day_of_readings_goes_when_all_of_them_are_accounted_for_and_not_before() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    for days in [40, 41] {
        partition_of(&app, days).await;
    }
    let days = number(&app, PARTITIONS).await;
    app.record(organization, &[1; 25]).await;
    app.meter().await;
    age(&app, 40).await;
    app.record(organization, &[1; 5]).await;
    run(Prune::default(), &app.context()).await.unwrap();
    assert_eq!(number(&app, READINGS).await, 30, "not reported yet");
    assert_eq!(
        number(&app, PARTITIONS).await,
        days - 1,
        "a day without readings goes"
    );
    app.report().await.unwrap();
    run(Prune::default(), &app.context()).await.unwrap();
    assert_eq!(
        number(&app, READINGS).await,
        5,
        "what no window holds is not touched"
    );
    assert_eq!(number(&app, PARTITIONS).await, days - 2);
    assert!(prove::chain_faults(&app.pool).await.unwrap().is_empty());
    let windows = windows(&app, organization).await;
    assert!(
        windows
            .iter()
            .all(|window| window.recount.is_none() && window.difference().is_none())
    );
    let difference = prove::difference(&app.pool, DateTime::UNIX_EPOCH, Utc::now())
        .await
        .unwrap();
    assert!(difference.is_zero(), "{difference}");
}

#[tokio::test]
async fn the_id_of_a_reading_is_known_as_long_as_the_reading() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    partition_of(&app, 40).await;
    let record = async || {
        let record = "SELECT polar_jobs.record_usage($1, 7, now(), 'sent again') IS NOT NULL";
        let recorded: bool = sqlx::query_scalar(record)
            .bind(organization)
            .fetch_one(&app.pool)
            .await
            .unwrap();
        recorded
    };
    assert!(record().await);
    app.meter().await;
    age(&app, 40).await;
    run(Prune::default(), &app.context()).await.unwrap();
    assert!(!record().await, "it waits to be reported");
    app.report().await.unwrap();
    run(Prune::default(), &app.context()).await.unwrap();
    assert_eq!(number(&app, READINGS).await, 0);
    assert!(record().await, "nobody knows it any more");
    assert_eq!(app.at_polar(organization), 7);
}

#[tokio::test]
async fn readings_of_a_day_without_a_partition_are_kept_counted_and_deleted_like_others() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    let old = "INSERT INTO polar_jobs.usage (organization_id, quantity, written_at) VALUES ($1, 7, now() - interval '50 days')";
    sqlx::query(old)
        .bind(organization)
        .execute(&app.pool)
        .await
        .unwrap();
    let default = "SELECT count(*) FROM polar_jobs.usage_default";
    assert_eq!(number(&app, default).await, 1);
    app.meter().await;
    app.report().await.unwrap();
    assert_eq!(app.at_polar(organization), 7);
    run(Prune::default(), &app.context()).await.unwrap();
    assert_eq!(
        number(&app, default).await,
        1,
        "its window may still be counted again"
    );
    age(&app, 40).await;
    run(Prune::default(), &app.context()).await.unwrap();
    assert_eq!(number(&app, default).await, 0);
}

#[tokio::test]
async fn a_host_ten_years_ahead_deletes_nothing_early() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    app.record(organization, &[3]).await;
    app.meter().await;
    app.report().await.unwrap();
    run(Prune::default(), &app.context()).await.unwrap();
    assert_eq!(number(&app, READINGS).await, 1);
    assert_eq!(app.reports(organization, "reported").await, 1);
}

#[tokio::test]
async fn old_reports_become_sums_of_their_month_and_the_proof_adds_up_all_the_same() {
    let app = TestApp::start().await;
    let (organization, gone) = (app.organization().await, app.organization().await);
    for quantity in [10, 20, 30] {
        app.record(organization, &[quantity, 1]).await;
        app.record(gone, &[5]).await;
        app.meter().await;
    }
    app.report().await.unwrap();
    end_reports(&app, gone, "excluded").await;
    age(&app, 100).await;
    partition_of(&app, 100).await;
    app.record(organization, &[400]).await;
    app.meter().await;
    app.report().await.unwrap();
    run(Prune::default(), &app.context()).await.unwrap();

    assert_eq!(
        number(&app, "SELECT count(*) FROM polar_jobs.usage_reports").await,
        1
    );
    assert_eq!(
        number(&app, "SELECT count(*) FROM polar_jobs.usage_windows").await,
        1
    );
    assert_eq!(
        number(&app, "SELECT count(*) FROM polar_jobs.usage_requests").await,
        1
    );
    let far = Utc::now() + TimeDelta::days(40);
    let folded = prove::folded(&app.pool, organization, DateTime::UNIX_EPOCH, far)
        .await
        .unwrap();
    assert_eq!(folded.len(), 1);
    assert_eq!(
        (folded[0].state.as_str(), folded[0].reports),
        ("reported", 3)
    );
    assert_eq!(folded[0].quantity.to_string(), "63");
    let excluded = prove::folded(&app.pool, gone, DateTime::UNIX_EPOCH, far)
        .await
        .unwrap();
    assert_eq!(
        (excluded[0].state.as_str(), excluded[0].quantity.to_string()),
        ("excluded", "15".to_owned())
    );
    let windows = windows(&app, organization).await;
    assert_eq!(quantities(&windows), [Some(400)]);
    assert!(prove::chain_faults(&app.pool).await.unwrap().is_empty());

    // A second run adds nothing, and what comes later is added.
    run(Prune::default(), &app.context()).await.unwrap();
    age(&app, 100).await;
    run(Prune::default(), &app.context()).await.unwrap();
    run(Prune::default(), &app.context()).await.unwrap();
    let folded = prove::folded(&app.pool, organization, DateTime::UNIX_EPOCH, far)
        .await
        .unwrap();
    let sum: rust_decimal::Decimal = folded.iter().map(|month| month.quantity).sum();
    assert_eq!(sum.to_string(), "463");
}

#[tokio::test]
async fn a_report_that_polar_refused_stays_however_old() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    app.record(organization, &[3]).await;
    app.meter().await;
    sqlx::query("UPDATE polar_jobs.usage_reports SET state = 'refused', reason = 'a test'")
        .execute(&app.pool)
        .await
        .unwrap();
    age(&app, 200).await;
    partition_of(&app, 200).await;
    run(Prune::default(), &app.context()).await.unwrap();
    assert_eq!(app.reports(organization, "refused").await, 1);
    assert_eq!(number(&app, READINGS).await, 1);
}

#[tokio::test]
async fn a_report_that_stays_for_ever_breaks_no_chain() {
    let app = TestApp::start().await;
    let (organization, stuck) = (app.organization().await, app.organization().await);
    for quantity in [1, 2, 3] {
        let mut readings = vec![reading(organization, quantity)];
        if quantity == 2 {
            readings.push(reading(stuck, 50));
        }
        // One statement, so one window.
        let mut connection = app.pool.acquire().await.unwrap();
        usage::record_all(&mut connection, &readings).await.unwrap();
        app.meter().await;
    }
    app.report().await.unwrap();
    end_reports(&app, stuck, "refused").await;
    partition_of(&app, 200).await;
    age(&app, 200).await;
    app.record(organization, &[400]).await;
    app.meter().await;
    app.report().await.unwrap();
    run(Prune::default(), &app.context()).await.unwrap();
    assert_eq!(
        number(&app, "SELECT count(*) FROM polar_jobs.usage_reports").await,
        3,
        "what lies in another window is folded"
    );
    assert_eq!(number(&app, READINGS).await, 5, "its day stays whole");
    let faults = prove::chain_faults(&app.pool).await.unwrap();
    assert!(faults.is_empty(), "{faults:?}");
    let shown = windows(&app, organization).await;
    assert_eq!(quantities(&shown), [Some(2), Some(400)]);
    assert!(shown.iter().all(|window| window.difference().is_none()));

    usage::retry_refused(&app.pool, None).await.unwrap();
    app.report().await.unwrap();
    age(&app, 100).await;
    for _ in 0..2 {
        run(Prune::default(), &app.context()).await.unwrap();
    }
    assert_eq!(
        number(&app, "SELECT count(*) FROM polar_jobs.usage_windows").await,
        0,
        "all goes once it is accounted for"
    );
    assert!(prove::chain_faults(&app.pool).await.unwrap().is_empty());
}

#[tokio::test]
async fn erasure_does_not_wait_for_the_folding_of_reports() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    let delete =
        "UPDATE polar_jobs.organizations SET deleted_at = now() - interval '22 days' WHERE id = $1";
    sqlx::query(delete)
        .bind(organization)
        .execute(&app.pool)
        .await
        .unwrap();
    let mut somebody = app.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE polar_jobs.usage_months IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *somebody)
        .await
        .unwrap();
    let context = app.context();
    let pruning = tokio::spawn(async move { run(Prune::default(), &context).await });
    eventually("the organization is erased", async || {
        number(
            &app,
            "SELECT count(*) FROM polar_jobs.organizations WHERE erased_at IS NOT NULL",
        )
        .await
            == 1
    })
    .await;
    assert!(!pruning.is_finished());
    somebody.rollback().await.unwrap();
    pruning.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_id_is_known_across_days_until_its_retention_is_over() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    let record = async || -> Option<i64> {
        sqlx::query_scalar("SELECT polar_jobs.record_usage($1, 1, null, 'once')")
            .bind(organization)
            .fetch_one(&app.pool)
            .await
            .unwrap()
    };
    assert!(record().await.is_some());
    age(&app, 30).await;
    assert_eq!(
        record().await,
        None,
        "the reading lies in another partition now"
    );
    let own = "INSERT INTO polar_jobs.usage (organization_id, quantity, external_id) VALUES ($1, 1, 'once')";
    let refused = sqlx::query(own)
        .bind(organization)
        .execute(&app.pool)
        .await
        .unwrap_err();
    let constraint = refused
        .as_database_error()
        .and_then(|error| error.constraint().map(str::to_owned));
    assert_eq!(constraint.as_deref(), Some("usage_external_id"));
    app.meter().await;
    app.report().await.unwrap();
    age(&app, 40).await;
    run(Prune::default(), &app.context()).await.unwrap();
    assert!(record().await.is_some());
}

#[tokio::test]
async fn whoever_holds_the_table_is_not_disturbed_by_partitions() {
    let app = TestApp::start().await;
    partition_of(&app, 40).await;
    let days = number(&app, PARTITIONS).await;
    let mut reader = app.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE polar_jobs.usage IN ACCESS SHARE MODE")
        .execute(&mut *reader)
        .await
        .unwrap();
    usage::prune(&app.pool, Utc::now() - TimeDelta::days(35))
        .await
        .unwrap();
    assert_eq!(
        number(&app, PARTITIONS).await,
        days,
        "given up, and tried again the next time"
    );
    reader.rollback().await.unwrap();
    usage::prune(&app.pool, Utc::now() - TimeDelta::days(35))
        .await
        .unwrap();
    assert_eq!(number(&app, PARTITIONS).await, days - 1);
}
