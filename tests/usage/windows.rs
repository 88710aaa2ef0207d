//! Windows: contiguous, disjoint, cut where no transaction can still commit.

use chrono::{DateTime, TimeDelta, Utc};
use jobs::contract::Outcome;
use jobs::mirror::usage::horizon_holder;
use jobs::{Job, MeterUsage};
use uuid::Uuid;

use crate::test_app::{TestApp, context, earlier, reading, run};

async fn ends(app: &TestApp) -> Vec<DateTime<Utc>> {
    sqlx::query_scalar("SELECT window_end FROM polar_jobs.usage_windows ORDER BY from_xid")
        .fetch_all(&app.pool)
        .await
        .unwrap()
}

async fn counted(app: &TestApp, organization: Uuid) -> i64 {
    sqlx::query_scalar("SELECT coalesce(sum(quantity), 0)::bigint FROM polar_jobs.usage_reports WHERE organization_id = $1")
        .bind(organization)
        .fetch_one(&app.pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_reading_committed_after_its_window_closed_falls_into_the_next() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    let mut late = app.pool.begin().await.unwrap();
    jobs::mirror::usage::record_all(&mut late, &[reading(organization, 7)])
        .await
        .unwrap();
    // Written before, committed after: what a count by time loses.
    app.record(organization, &[5]).await;
    run(MeterUsage {}, &app.context()).await.unwrap();
    assert_eq!(
        counted(&app, organization).await,
        0,
        "everything from the open transaction on waits"
    );
    late.commit().await.unwrap();
    app.meter().await;
    assert_eq!(counted(&app, organization).await, 12);
}

#[tokio::test]
async fn a_long_transaction_delays_only_what_was_written_since_it_began() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    app.record(organization, &[1, 2]).await;
    app.meter().await;
    let mut long = app.pool.begin().await.unwrap();
    sqlx::query("SET LOCAL application_name = 'a nightly import'")
        .execute(&mut *long)
        .await
        .unwrap();
    jobs::mirror::usage::record_all(&mut long, &[reading(organization, 100)])
        .await
        .unwrap();
    app.record(organization, &[3]).await;
    run(MeterUsage {}, &app.context()).await.unwrap();
    assert_eq!(counted(&app, organization).await, 3);

    // Another test's transaction may be older for a moment.
    crate::wait::eventually("the holder is named", async || {
        let holder = horizon_holder(&app.pool).await.unwrap();
        holder.is_some_and(|holder| {
            holder.name == "a nightly import"
                && holder
                    .seen
                    .is_some_and(|seen| seen.state == "idle in transaction")
        })
    })
    .await;
    long.rollback().await.unwrap();
    app.meter().await;
    assert_eq!(
        counted(&app, organization).await,
        6,
        "and a rollback is never counted"
    );
}

#[tokio::test]
async fn window_ends_are_whole_seconds_and_grow_even_when_the_clock_steps_back() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    let clock = earlier();
    for offset in [0, 0, 0, -3600, 500, 500] {
        app.record(organization, &[1]).await;
        app.meter_at(clock + TimeDelta::milliseconds(offset)).await;
    }
    let ends = ends(&app).await;
    assert_eq!(ends.len(), 6);
    assert!(
        ends.is_sorted_by(|earlier, later| earlier < later),
        "{ends:?}"
    );
    assert!(ends.iter().all(|end| end.timestamp_subsec_nanos() == 0));
    // An event never claims to come from the future, even where its window's name does.
    let early: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM polar_jobs.usage_windows WHERE event_timestamp > $1",
    )
    .bind(clock + TimeDelta::milliseconds(500))
    .fetch_one(&app.pool)
    .await
    .unwrap();
    assert_eq!(early, 0);
}

#[tokio::test]
async fn two_ticks_at_once_change_nothing() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    app.record(organization, &[4, 4]).await;
    let (first, second) = (app.context(), app.context());
    let (first, second) = tokio::join!(run(MeterUsage {}, &first), run(MeterUsage {}, &second));
    first.unwrap();
    second.unwrap();
    app.meter().await;
    assert_eq!(counted(&app, organization).await, 8);
    assert_eq!(ends(&app).await.len(), 1);
}

#[tokio::test]
async fn a_crash_before_the_commit_leaves_no_trace() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    app.record(organization, &[9]).await;
    let done = MeterUsage {}.run(&app.context()).await.unwrap();
    drop(done);
    assert_eq!(counted(&app, organization).await, 0);
    app.meter().await;
    assert_eq!(counted(&app, organization).await, 9);
}

/// As for a logical replica, or an upgrade without downtime. Postgres then refuses to change rows that have no name.
#[tokio::test]
async fn a_publication_of_all_tables_stops_no_window() {
    let app = TestApp::start().await;
    for statement in [
        "CREATE PUBLICATION everything FOR ALL TABLES",
        // A day for which no partition was made.
        "DO $$ BEGIN EXECUTE 'DROP TABLE polar_jobs.usage_' || to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD'); END $$",
    ] {
        sqlx::query(statement).execute(&app.pool).await.unwrap();
    }
    let organization = app.organization().await;
    app.record(organization, &[3]).await;
    app.meter().await;
    assert_eq!(counted(&app, organization).await, 3);
    let nameless: Vec<String> = sqlx::query_scalar(
        "SELECT c.relname::text FROM pg_class c
          WHERE c.relnamespace = 'polar_jobs'::regnamespace AND c.relkind = 'r' AND c.relreplident <> 'f'
            AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)",
    )
    .fetch_all(&app.pool)
    .await
    .unwrap();
    assert!(nameless.is_empty(), "{nameless:?}");
}

#[tokio::test]
async fn without_readings_no_window_closes() {
    let app = TestApp::start().await;
    let outcome = run(MeterUsage {}, &app.context()).await.unwrap();
    assert!(matches!(outcome, Outcome::Ignored(_)));
    assert!(ends(&app).await.is_empty());
}

#[tokio::test]
async fn after_hours_of_downtime_one_window_covers_everything_once() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    let mut connection = app.pool.acquire().await.unwrap();
    let readings: Vec<_> = (1..=100)
        .map(|minute| jobs::types::UsageReading {
            recorded_at: Some(Utc::now() - TimeDelta::minutes(minute * 5)),
            ..reading(organization, minute)
        })
        .collect();
    jobs::mirror::usage::record_all(&mut connection, &readings)
        .await
        .unwrap();
    app.meter().await;
    app.meter().await;
    assert_eq!(counted(&app, organization).await, 5050);
    assert_eq!(ends(&app).await.len(), 1);
}

#[tokio::test]
async fn the_last_second_of_a_month_belongs_to_it_and_what_commits_later_to_the_next() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    let clock = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
    app.record(organization, &[10]).await;
    app.meter_at(clock("2026-10-31T23:59:59.999999Z")).await;
    app.record(organization, &[20]).await;
    app.meter_at(clock("2026-10-31T23:59:59.999999Z")).await;
    assert_eq!(
        ends(&app).await,
        [clock("2026-10-31T23:59:59Z"), clock("2026-11-01T00:00:00Z")]
    );
    let ids: Vec<String> =
        sqlx::query_scalar("SELECT external_id FROM polar_jobs.usage_reports ORDER BY window_end")
            .fetch_all(&app.pool)
            .await
            .unwrap();
    assert_eq!(ids[0], format!("events_ingested-{organization}-1793491199"));
    assert_eq!(ids[1], format!("events_ingested-{organization}-1793491200"));
}

#[tokio::test]
async fn history_counts_unless_metering_began_later() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    let since: DateTime<Utc> = "2026-11-01T00:00:00Z".parse().unwrap();
    assert!(
        jobs::mirror::usage::begin(&app.pool, Some(since))
            .await
            .unwrap()
    );
    let at = |recorded_at: DateTime<Utc>, quantity| jobs::types::UsageReading {
        recorded_at: Some(recorded_at),
        ..reading(organization, quantity)
    };
    let second = TimeDelta::seconds(1);
    let readings = [at(since - second, 100), at(since, 7), at(since + second, 8)];
    jobs::mirror::usage::record_all(&mut app.pool.acquire().await.unwrap(), &readings)
        .await
        .unwrap();
    app.meter().await;
    assert_eq!(counted(&app, organization).await, 15);
    assert!(jobs::mirror::usage::begin(&app.pool, None).await.unwrap());
    app.record(organization, &[1]).await;
    app.meter().await;
    assert_eq!(counted(&app, organization).await, 16);
}

#[tokio::test]
async fn a_sum_that_no_event_can_carry_stops_nobody_else() {
    let app = TestApp::start().await;
    let (huge, small) = (app.organization().await, app.organization().await);
    // One statement, so one window.
    app.record(huge, &[jobs::types::MAX_QUANTITY; 1_200]).await;
    app.record(small, &[2]).await;
    app.meter().await;
    app.report().await.unwrap();
    assert_eq!(app.reports(huge, "refused").await, 1);
    assert_eq!(app.at_polar(small), 2);
}

#[tokio::test]
async fn billing_off_counts_all_the_same_and_makes_no_client() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    app.record(organization, &[3]).await;
    let off = context(&app.pool, None, None);
    crate::wait::eventually("the reading is counted", async || {
        run(MeterUsage {}, &off).await.unwrap();
        app.uncounted().await == 0
    })
    .await;
    let outcome = run(jobs::ReportUsage {}, &off).await.unwrap();
    assert!(matches!(outcome, Outcome::Ignored(_)));
    assert_eq!(app.reports(organization, "frozen").await, 1);
    app.report().await.unwrap();
    assert_eq!(
        app.at_polar(organization),
        3,
        "once configured it is reported"
    );
}
