//! Copies of the database: restored into another cluster, promoted, recovered to an earlier time.

use chrono::{DateTime, Utc};
use jobs::MeterUsage;
use jobs::mirror::usage::{self, close_window};
use uuid::Uuid;

use crate::stage::{Stage, run};

async fn counted(stage: &Stage, organization: Uuid) -> i64 {
    sqlx::query_scalar("SELECT coalesce(sum(quantity), 0)::bigint FROM polar_jobs.usage_reports WHERE organization_id = $1")
        .bind(organization)
        .fetch_one(&stage.pool)
        .await
        .unwrap()
}

async fn execute(stage: &Stage, statement: &'static str) {
    sqlx::query(statement).execute(&stage.pool).await.unwrap();
}

/// A window is counted and reported; then the commits since before its closing are lost, and another
/// server goes on with what is left. Returns the end of the lost window.
async fn promoted_without_its_last_window(stage: &Stage, organization: Uuid) -> DateTime<Utc> {
    stage.record(organization, &[1]).await;
    stage.meter().await;
    stage.report().await.unwrap();
    execute(
        stage,
        "CREATE TABLE cursor_then AS SELECT * FROM polar_jobs.usage_cursor",
    )
    .await;
    stage.record(organization, &[10]).await;
    stage.meter().await;
    stage.report().await.unwrap();
    let lost = "SELECT max(window_end) FROM polar_jobs.usage_windows";
    let lost = sqlx::query_scalar(lost)
        .fetch_one(&stage.pool)
        .await
        .unwrap();
    for statement in [
        "DELETE FROM polar_jobs.usage_reports WHERE window_end = (SELECT max(window_end) FROM polar_jobs.usage_windows)",
        "DELETE FROM polar_jobs.usage_windows WHERE window_end = (SELECT max(window_end) FROM polar_jobs.usage_windows)",
        "UPDATE polar_jobs.usage_cursor c
            SET from_xid = t.from_xid, window_end = t.window_end, timeline = '00000099',
                written_by = pg_current_xact_id()::text::bigint FROM cursor_then t",
    ] {
        execute(stage, statement).await;
    }
    lost
}

#[tokio::test]
async fn a_promoted_copy_counts_nothing_until_somebody_says_what_polar_has() {
    let stage = Stage::set().await;
    let organization = stage.organization().await;
    let lost = promoted_without_its_last_window(&stage, organization).await;
    stage.record(organization, &[100]).await;
    let refused = run(MeterUsage {}, &stage.context()).await.unwrap_err();
    assert!(
        refused.to_string().contains("promoted or recovered"),
        "{refused}"
    );
    assert_eq!(
        counted(&stage, organization).await,
        1,
        "and nothing is counted twice meanwhile"
    );

    // What it lacks, and what was written before that: by a second, which is what ends are rounded to.
    execute(&stage, "UPDATE polar_jobs.usage SET written_at = written_at - interval '2 seconds' WHERE quantity = 10").await;
    let adopted = usage::adopt(&stage.pool, Some(lost))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((adopted.counted, adopted.uncounted), (1, 1));
    stage.meter().await;
    stage.report().await.unwrap();
    assert_eq!(stage.at_polar(organization), 111, "each once");
    let ends: Vec<DateTime<Utc>> =
        sqlx::query_scalar("SELECT window_end FROM polar_jobs.usage_windows ORDER BY 1")
            .fetch_all(&stage.pool)
            .await
            .unwrap();
    assert!(
        ends[1] > lost,
        "no window is named like one that Polar has: {ends:?}, {lost}"
    );
    assert_eq!(usage::adopt(&stage.pool, None).await.unwrap(), None);
    assert!(
        usage::prove::chain_faults(&stage.pool)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_promoted_copy_that_lacks_nothing_goes_on_when_told() {
    let stage = Stage::set().await;
    let organization = stage.organization().await;
    stage.record(organization, &[1]).await;
    execute(
        &stage,
        "UPDATE polar_jobs.usage_cursor SET timeline = '00000099', written_by = pg_current_xact_id()::text::bigint",
    )
    .await;
    run(MeterUsage {}, &stage.context()).await.unwrap_err();
    let adopted = usage::adopt(&stage.pool, None).await.unwrap().unwrap();
    assert_eq!((adopted.counted, adopted.uncounted), (0, 1));
    stage.meter().await;
    assert_eq!(counted(&stage, organization).await, 1);
}

#[tokio::test]
async fn polar_cannot_have_windows_of_a_time_to_come() {
    let stage = Stage::set().await;
    let tomorrow = Utc::now() + chrono::TimeDelta::days(1);
    let refused = usage::adopt(&stage.pool, Some(tomorrow)).await.unwrap_err();
    assert!(refused.to_string().contains("time to come"), "{refused}");
}

#[tokio::test]
async fn a_window_waits_for_the_standby_also_where_the_database_does_not() {
    let stage = Stage::set().await;
    let organization = stage.organization().await;
    for (setting, expected) in [
        ("off", "on"),
        ("local", "on"),
        ("remote_apply", "remote_apply"),
    ] {
        stage.record(organization, &[1]).await;
        let mut transaction = stage.pool.begin().await.unwrap();
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
    let stage = Stage::set().await;
    let organization = stage.organization().await;
    stage.record(organization, &[1]).await;
    stage.meter().await;
    stage.record(organization, &[10]).await;
    // What a dump and a restore do: copies that name transactions of a cluster far ahead of this one.
    let mut restore = stage.pool.begin().await.unwrap();
    for statement in [
        "UPDATE polar_jobs.usage SET written_by = written_by + 1000000000",
        "UPDATE polar_jobs.usage_windows SET from_xid = from_xid + 1000000000, to_xid = to_xid + 1000000000",
        "UPDATE polar_jobs.usage_cursor SET from_xid = from_xid + 1000000000, written_by = written_by + 1000000000",
    ] {
        sqlx::query(statement).execute(&mut *restore).await.unwrap();
    }
    restore.commit().await.unwrap();
    stage.record(organization, &[100]).await;

    let mut connection = stage.pool.acquire().await.unwrap();
    let refused = close_window(&mut connection, None).await.unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("restored from another cluster"),
        "{refused}"
    );
    assert!(!usage::begin(&stage.pool, None).await.unwrap());

    let adopted = usage::adopt(&stage.pool, None).await.unwrap().unwrap();
    assert_eq!((adopted.counted, adopted.uncounted), (1, 2));
    assert_eq!(usage::adopt(&stage.pool, None).await.unwrap(), None);
    stage.meter().await;
    assert_eq!(counted(&stage, organization).await, 111);
    assert!(
        usage::prove::chain_faults(&stage.pool)
            .await
            .unwrap()
            .is_empty()
    );
}
