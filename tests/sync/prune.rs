//! `prune`: what is old goes, what is not handled stays.

use jobs::{NewJob, Prune};

use crate::test_app::{Tenant, TestApp};

#[tokio::test(flavor = "multi_thread")]
async fn old_rows_go_and_events_that_nobody_handled_stay() {
    let app = TestApp::open().await;
    let tenant = Tenant::new();
    app.tell(&[tenant.created()]).await;
    app.work_until_idle().await;
    for statement in [
        "INSERT INTO polar_jobs.finished_jobs (id, run_at, created_at, finished_at, attempt, max_attempts, priority, state, queue, kind, payload, errors)
         SELECT -1000 * d - s, now(), now(), now() - make_interval(days => d), 1, 1, 0,
                CASE s WHEN 1 THEN 'completed' WHEN 2 THEN 'discarded' ELSE 'cancelled' END, 'default', 'old', '{}', '[]'
           FROM unnest(ARRAY[6, 8, 89, 91]) d, generate_series(1, 3) s",
        "INSERT INTO polar_jobs.stored_events (source, external_id, received_at, outcome, body)
         SELECT 'polar', d || '-' || h, now() - make_interval(days => d), CASE WHEN h THEN 'applied' END, '{}'
           FROM unnest(ARRAY[89, 91]) d, unnest(ARRAY[true, false]) h",
        "INSERT INTO polar_jobs.schedule_ticks (schedule, tick)
         SELECT s, now() - make_interval(days => d)
           FROM (VALUES ('busy', 6), ('busy', 8), ('busy', 91), ('retired', 91), ('retired', 92)) t (s, d)",
    ] {
        sqlx::query(statement).execute(&app.pool).await.unwrap();
    }
    let mut connection = app.pool.acquire().await.unwrap();
    let prune = NewJob::of(&Prune::default());
    polar_jobs::queue::enqueue::insert(&mut connection, &prune)
        .await
        .unwrap();
    app.work_until_idle().await;

    let jobs: Vec<(i64, String)> = sqlx::query_as(
        "SELECT -id / 1000, state FROM polar_jobs.finished_jobs WHERE kind = 'old' ORDER BY 1, 2",
    )
    .fetch_all(&app.pool)
    .await
    .unwrap();
    let kept = [
        (6, "cancelled"),
        (6, "completed"),
        (6, "discarded"),
        (8, "cancelled"),
        (8, "discarded"),
        (89, "cancelled"),
        (89, "discarded"),
    ];
    assert_eq!(jobs, kept.map(|(days, state)| (days, state.to_owned())));
    let events: Vec<String> = sqlx::query_scalar(
        "SELECT external_id FROM polar_jobs.external_events WHERE source = 'polar' AND body = '{}' ORDER BY 1",
    )
    .fetch_all(&app.pool)
    .await
    .unwrap();
    assert_eq!(events, ["89-false", "89-true", "91-false"]);
    let ticks: Vec<(String, i32)> = sqlx::query_as(
        "SELECT schedule, extract(day FROM now() - tick)::int FROM polar_jobs.schedule_ticks ORDER BY 1, 2",
    )
    .fetch_all(&app.pool)
    .await
    .unwrap();
    let kept = [("busy", 6), ("retired", 91)];
    assert_eq!(
        ticks,
        kept.map(|(schedule, days)| (schedule.to_owned(), days)),
        "the newest of a schedule stays, however old"
    );
}

async fn number(app: &TestApp, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement)
        .fetch_one(&app.pool)
        .await
        .unwrap()
}

const RETRIES: &str = "SELECT count(*) FROM polar_jobs.live_jobs WHERE kind = 'prune'
                         AND payload ->> 'partitions_only' = 'true' AND run_at > now() + interval '9 minutes'";

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_somebody_holds_are_dropped_ten_minutes_later() {
    let app = TestApp::open().await;
    for statement in [
        "SELECT polar_jobs.create_partition('stored_events', 'fillfactor = 100', 'received_at', current_date - 91)",
        "INSERT INTO polar_jobs.stored_events (source, received_at, outcome, body) VALUES ('polar', now() - interval '91 days', 'applied', '{}')",
    ] {
        sqlx::query(statement).execute(&app.pool).await.unwrap();
    }
    let events = "SELECT count(*) FROM polar_jobs.stored_events";
    // As a dump does, or a transaction that recorded a change.
    let mut reader = app.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE polar_jobs.stored_events IN ACCESS SHARE MODE")
        .execute(&mut *reader)
        .await
        .unwrap();
    app.enqueue(NewJob::of(&Prune::default())).await;
    app.work_until_idle().await;
    assert_eq!(
        (number(&app, events).await, number(&app, RETRIES).await),
        (1, 1)
    );
    reader.rollback().await.unwrap();
    sqlx::query("UPDATE polar_jobs.live_jobs SET run_at = now() WHERE kind = 'prune'")
        .execute(&app.pool)
        .await
        .unwrap();
    app.work_until_idle().await;
    assert_eq!(
        (number(&app, events).await, number(&app, RETRIES).await),
        (0, 0)
    );
}
