//! Copies of the database: restored into another cluster, promoted, recovered to an earlier time.

use chrono::{DateTime, Utc};
use jobs::MeterUsage;
use jobs::mirror::usage::{self, close_window};
use private_postgres::testing::sessions_waiting_for_a_lock;
use uuid::Uuid;

use crate::test_app::{TestApp, run};
use crate::wait::eventually;

async fn counted(app: &TestApp, organization: Uuid) -> i64 {
    sqlx::query_scalar("SELECT coalesce(sum(quantity), 0)::bigint FROM polar_jobs.usage_reports WHERE organization_id = $1")
        .bind(organization)
        .fetch_one(&app.pool)
        .await
        .unwrap()
}

async fn execute(app: &TestApp, statement: &'static str) {
    sqlx::query(statement).execute(&app.pool).await.unwrap();
}

/// A window is counted and reported; then the commits since before its closing are lost, and another
/// server goes on with what is left. Returns the end of the lost window.
async fn promoted_without_its_last_window(app: &TestApp, organization: Uuid) -> DateTime<Utc> {
    app.record(organization, &[1]).await;
    app.meter().await;
    app.report().await.unwrap();
    execute(
        app,
        "CREATE TABLE cursor_then AS SELECT * FROM polar_jobs.usage_cursor",
    )
    .await;
    app.record(organization, &[10]).await;
    app.meter().await;
    app.report().await.unwrap();
    let lost = "SELECT max(window_end) FROM polar_jobs.usage_windows";
    let lost = sqlx::query_scalar(lost).fetch_one(&app.pool).await.unwrap();
    for statement in [
        "DELETE FROM polar_jobs.usage_reports WHERE window_end = (SELECT max(window_end) FROM polar_jobs.usage_windows)",
        "DELETE FROM polar_jobs.usage_windows WHERE window_end = (SELECT max(window_end) FROM polar_jobs.usage_windows)",
        "UPDATE polar_jobs.usage_cursor c
            SET from_xid = t.from_xid, window_end = t.window_end, timeline = '00000099',
                written_by = pg_current_xact_id()::text::bigint FROM cursor_then t",
    ] {
        execute(app, statement).await;
    }
    lost
}

#[tokio::test]
async fn a_promoted_copy_counts_nothing_until_somebody_says_what_polar_has() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    let lost = promoted_without_its_last_window(&app, organization).await;
    let passed = "SELECT clock_timestamp() > $1::timestamptz + interval '1 second'";
    eventually("its last second is over", async || {
        let passed = sqlx::query_scalar(passed).bind(lost);
        passed.fetch_one(&app.pool).await.unwrap()
    })
    .await;
    app.record(organization, &[100]).await;
    let refused = run(MeterUsage {}, &app.context()).await.unwrap_err();
    assert!(
        refused.to_string().contains("promoted or recovered"),
        "{refused}"
    );
    assert_eq!(
        counted(&app, organization).await,
        1,
        "and nothing is counted twice meanwhile"
    );

    let adopted = usage::adopt(&app.pool, Some(lost)).await.unwrap().unwrap();
    assert_eq!((adopted.counted, adopted.uncounted), (1, 1));
    app.meter().await;
    app.report().await.unwrap();
    assert_eq!(app.at_polar(organization), 111, "each once");
    let ends: Vec<DateTime<Utc>> =
        sqlx::query_scalar("SELECT window_end FROM polar_jobs.usage_windows ORDER BY 1")
            .fetch_all(&app.pool)
            .await
            .unwrap();
    assert!(
        ends[1] > lost,
        "no window is named like one that Polar has: {ends:?}, {lost}"
    );
    assert_eq!(usage::adopt(&app.pool, None).await.unwrap(), None);
    assert!(
        usage::prove::chain_faults(&app.pool)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_promoted_copy_that_lacks_nothing_goes_on_when_told() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    app.record(organization, &[1]).await;
    execute(
        &app,
        "UPDATE polar_jobs.usage_cursor SET timeline = '00000099', written_by = pg_current_xact_id()::text::bigint",
    )
    .await;
    run(MeterUsage {}, &app.context()).await.unwrap_err();
    let adopted = usage::adopt(&app.pool, None).await.unwrap().unwrap();
    assert_eq!((adopted.counted, adopted.uncounted), (0, 1));
    app.meter().await;
    assert_eq!(counted(&app, organization).await, 1);
}

#[tokio::test]
async fn a_window_that_meets_an_adoption_waits_and_holds_nothing_that_it_needs() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    app.record(organization, &[1]).await;
    let mut adoption = app.pool.begin().await.unwrap();
    // As `adopt_usage` begins.
    let lock = "LOCK TABLE polar_jobs.usage IN SHARE ROW EXCLUSIVE MODE";
    sqlx::query(lock).execute(&mut *adoption).await.unwrap();
    let adopt = async {
        eventually("the window waits", async || {
            sessions_waiting_for_a_lock(&app.pool).await == 1
        })
        .await;
        let adopt = "SELECT polar_jobs.adopt_usage(clock_timestamp() - interval '1 minute')";
        sqlx::query(adopt).execute(&mut *adoption).await.unwrap();
        adoption.commit().await.unwrap();
    };
    tokio::join!(app.close_at(Utc::now()), adopt);
    app.meter().await;
    assert_eq!(counted(&app, organization).await, 1);
}

#[tokio::test]
async fn polar_cannot_have_windows_of_a_time_to_come() {
    let app = TestApp::start().await;
    let tomorrow = Utc::now() + chrono::TimeDelta::days(1);
    let refused = usage::adopt(&app.pool, Some(tomorrow)).await.unwrap_err();
    assert!(refused.to_string().contains("time to come"), "{refused}");
}

#[tokio::test]
async fn a_window_waits_for_the_standby_also_where_the_database_does_not() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    for (setting, expected) in [
        ("off", "on"),
        ("local", "on"),
        ("remote_apply", "remote_apply"),
    ] {
        app.record(organization, &[1]).await;
        let mut transaction = app.pool.begin().await.unwrap();
        sqlx::query("SELECT set_config('synchronous_commit', $1, true)")
            .bind(setting)
            .execute(&mut *transaction)
            .await
            .unwrap();
        close_window(&mut transaction, None).await.unwrap();
        let used: String = sqlx::query_scalar("SELECT current_setting('synchronous_commit')")
            .fetch_one(&mut *transaction)
            .await
            .unwrap();
        assert_eq!(used, expected, "with {setting}");
    }
}

#[tokio::test]
async fn tables_restored_from_another_cluster_stop_counting_until_they_are_adopted() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    app.record(organization, &[1]).await;
    app.meter().await;
    app.record(organization, &[10]).await;
    // What a dump and a restore do: copies that name transactions of a cluster far ahead of this one.
    let mut restore = app.pool.begin().await.unwrap();
    for statement in [
        "UPDATE polar_jobs.usage SET written_by = written_by + 1000000000",
        "UPDATE polar_jobs.usage_windows SET from_xid = from_xid + 1000000000, to_xid = to_xid + 1000000000",
        "UPDATE polar_jobs.usage_cursor SET from_xid = from_xid + 1000000000, written_by = written_by + 1000000000",
    ] {
        sqlx::query(statement).execute(&mut *restore).await.unwrap();
    }
    restore.commit().await.unwrap();
    app.record(organization, &[100]).await;

    let mut connection = app.pool.acquire().await.unwrap();
    let refused = close_window(&mut connection, None).await.unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("restored from another cluster"),
        "{refused}"
    );
    assert!(!usage::begin(&app.pool, None).await.unwrap());

    let adopted = usage::adopt(&app.pool, None).await.unwrap().unwrap();
    assert_eq!((adopted.counted, adopted.uncounted), (1, 2));
    assert_eq!(usage::adopt(&app.pool, None).await.unwrap(), None);
    app.meter().await;
    assert_eq!(counted(&app, organization).await, 111);
    assert!(
        usage::prove::chain_faults(&app.pool)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn readings_of_a_copy_stay_apart_from_new_ones_until_it_is_adopted() {
    let app = TestApp::start().await;
    let organization = app.organization().await;
    // The dump is older than its partitions reach.
    let days: Vec<String> = sqlx::query_scalar(
        "SELECT inhrelid::regclass::text FROM pg_inherits
          WHERE inhparent = 'polar_jobs.usage'::regclass AND inhrelid::regclass::text ~ '_[0-9]{8}$'",
    )
    .fetch_all(&app.pool)
    .await
    .unwrap();
    for day in days {
        let drop = sqlx::AssertSqlSafe(format!("DROP TABLE {day}"));
        sqlx::query(drop).execute(&app.pool).await.unwrap();
    }
    app.record(organization, &[1]).await;
    eventually("the reading is counted", async || {
        app.close_at(Utc::now()).await;
        app.uncounted().await == 0
    })
    .await;
    app.record(organization, &[10]).await;
    let mut restore = app.pool.begin().await.unwrap();
    for statement in [
        "UPDATE polar_jobs.usage SET written_by = written_by + 1000000000, written_at = written_at - interval '10 days'",
        "UPDATE polar_jobs.usage_windows SET from_xid = from_xid + 1000000000, to_xid = to_xid + 1000000000",
        "UPDATE polar_jobs.usage_cursor SET from_xid = from_xid + 1000000000, written_by = written_by + 1000000000",
    ] {
        sqlx::query(statement).execute(&mut *restore).await.unwrap();
    }
    // A copy of today as well: one day of the default partition holds both kinds.
    sqlx::query("INSERT INTO polar_jobs.usage (organization_id, quantity, written_by) VALUES ($1, 100, 1000000007)")
        .bind(organization)
        .execute(&mut *restore)
        .await
        .unwrap();
    restore.commit().await.unwrap();
    for quantity in [1000, 1000, 1000] {
        app.record(organization, &[quantity]).await;
    }
    // Makes partitions first, as `migrate` does, and then finds the copy.
    let refused = run(MeterUsage {}, &app.context()).await.unwrap_err();
    assert!(refused.to_string().contains("another cluster"), "{refused}");

    let adopted = usage::adopt(&app.pool, None).await.unwrap().unwrap();
    assert_eq!((adopted.counted, adopted.uncounted), (2, 4));
    app.meter().await;
    assert_eq!(counted(&app, organization).await, 3011);
    let left: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM polar_jobs.usage_default WHERE written_at > now() - interval '5 days'",
    )
    .fetch_one(&app.pool)
    .await
    .unwrap();
    assert_eq!(left, 0, "then they move to their day");
}

#[tokio::test]
async fn a_transaction_id_of_32_bits_is_read_as_the_newest_that_ends_so() {
    let app = TestApp::start().await;
    for (narrow, newest, full) in [
        ("7", 9, 7),
        ("9", 9, 9),
        ("7", (1_i64 << 32) + 9, (1 << 32) + 7),
        ("4294967290", (1 << 32) + 9, 4_294_967_290),
        ("9", (5 << 32) + 9, (5 << 32) + 9),
    ] {
        let read: i64 = sqlx::query_scalar("SELECT polar_jobs.full_xid($1::text::xid, $2)")
            .bind(narrow)
            .bind(newest)
            .fetch_one(&app.pool)
            .await
            .unwrap();
        assert_eq!(read, full, "{narrow} by {newest}");
    }
}
