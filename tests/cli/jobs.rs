//! `jobs show`, `retry`, `cancel`, `discard`, on real rows.

use private_postgres::testing;
use serde_json::Value;
use sqlx::{PgConnection, PgPool};

use super::support::with_database;
use crate::wait::eventually;

async fn enqueue(
    pool: &PgPool,
    kind: &str,
    ordering_key: Option<&str>,
    unique_key: Option<&str>,
) -> i64 {
    sqlx::query_scalar("SELECT polar_jobs.enqueue($1, ordering_key => $2, unique_key => $3)")
        .bind(kind)
        .bind(ordering_key)
        .bind(unique_key)
        .fetch_one(pool)
        .await
        .unwrap()
}

/// What a worker's claim does to a row.
async fn claim(pool: &PgPool, id: i64, worker: i64) {
    sqlx::query(
        "UPDATE polar_jobs.live_jobs SET worker = $2, attempt = attempt + 1, started_at = now(),
                held_unique_key = unique_key, unique_key = NULL WHERE id = $1",
    )
    .bind(id)
    .bind(worker)
    .execute(pool)
    .await
    .unwrap();
}

async fn add_error(pool: &PgPool, id: i64) {
    sqlx::query(
        r#"UPDATE polar_jobs.live_jobs SET errors = errors || '{"at": "2026-01-01T00:00:00Z", "attempt": 1, "error": "Polar said no"}'::jsonb
            WHERE id = $1"#,
    )
    .bind(id)
    .execute(pool)
    .await
    .unwrap();
}

fn show(url: &str, id: i64) -> Value {
    let said = with_database(url, &["jobs", "show", &id.to_string(), "--format", "json"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    serde_json::from_str(&said.out).unwrap()
}

fn why(url: &str, id: i64) -> String {
    show(url, id)["why"].to_string()
}

fn act(url: &str, action: &str, id: i64) -> (Option<i32>, String) {
    let said = with_database(url, &["jobs", action, &id.to_string()]);
    (said.code, said.out)
}

#[tokio::test]
async fn show_says_everything_that_keeps_a_job_waiting() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let (pool, url) = (&database.pool, &database.url);
    let head = enqueue(pool, "sync_customer", Some("acme"), None).await;
    let behind = enqueue(pool, "sync_member", Some("acme"), None).await;
    sqlx::query("UPDATE polar_jobs.jobs SET run_at = now() + interval '3 hours' WHERE id = $1")
        .bind(behind)
        .execute(pool)
        .await
        .unwrap();
    assert_eq!(
        with_database(url, &["queues", "pause", "default"]).code,
        Some(0)
    );

    let reasons = why(url, behind);
    assert!(
        reasons.contains(&format!("blocked by job {head} (sync_customer)")),
        "{reasons}"
    );
    assert!(reasons.contains("the queue default is paused"), "{reasons}");
    assert!(reasons.contains("not before"), "{reasons}");
    assert!(
        reasons.contains("no living worker serves the queue default"),
        "{reasons}"
    );
    let page = with_database(url, &["jobs", "show", &behind.to_string()]).out;
    assert!(page.contains("polar-jobs queues resume default"), "{page}");
}

#[tokio::test]
async fn show_lists_every_failed_attempt() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let id = enqueue(&database.pool, "sync_customer", None, None).await;
    add_error(&database.pool, id).await;
    let page = with_database(&database.url, &["jobs", "show", &id.to_string()]).out;
    assert!(
        page.contains("attempt 1: Polar said no") && page.contains("1 of 20 failures"),
        "{page}"
    );
}

#[tokio::test]
async fn the_end_of_a_job_that_no_event_caused_says_nothing_of_events() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let id = enqueue(&database.pool, "sync_customer", None, None).await;
    act(&database.url, "cancel", id);
    let why = why(&database.url, id);
    assert!(
        why.contains("cancelled after 0 claims and 0 failures\""),
        "{why}"
    );
}

#[tokio::test]
async fn an_unknown_job_is_a_failure() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    assert_eq!(
        with_database(&database.url, &["jobs", "show", "4711"]).code,
        Some(1)
    );
    for action in ["retry", "cancel", "discard"] {
        assert_eq!(act(&database.url, action, 4711).0, Some(1));
    }
}

#[tokio::test]
async fn a_discarded_job_runs_again_with_its_id_its_errors_and_a_new_budget() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let (pool, url) = (&database.pool, &database.url);
    let id = enqueue(pool, "sync_customer", None, None).await;
    claim(pool, id, 1).await;
    add_error(pool, id).await;
    assert_eq!(act(url, "discard", id).0, Some(0));
    assert_eq!(show(url, id)["state"], "discarded");

    assert_eq!(act(url, "retry", id).0, Some(0));
    let job = show(url, id);
    assert_eq!(
        (&job["state"], &job["attempt"], &job["max_attempts"]),
        (&"available".into(), &1.into(), &21.into())
    );
    assert_eq!(job["errors"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_retried_job_stands_behind_the_one_that_has_its_ordering_key() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let (pool, url) = (&database.pool, &database.url);
    let first = enqueue(pool, "sync_member", Some("acme"), None).await;
    let second = enqueue(pool, "sync_member", Some("acme"), None).await;
    assert_eq!(act(url, "cancel", first).0, Some(0));
    assert_eq!(show(url, second)["blocked"], false);
    assert_eq!(act(url, "retry", first).0, Some(0));
    assert_eq!(show(url, first)["blocked"], true);
    assert!(why(url, first).contains(&format!("blocked by job {second}")));
    assert_eq!(act(url, "cancel", second).0, Some(0));
    assert_eq!(show(url, first)["blocked"], false);
}

/// One that tells apart the news that it brings.
async fn enqueue_plan(pool: &PgPool, ordering_key: Option<&str>, plan: &str) -> i64 {
    let enqueue = "SELECT polar_jobs.enqueue('sync_customer', jsonb_build_object('plan', $1::text),
                          unique_key => 'customer acme', ordering_key => $2)";
    sqlx::query_scalar(enqueue)
        .bind(plan)
        .bind(ordering_key)
        .fetch_one(pool)
        .await
        .unwrap()
}

async fn row(pool: &PgPool, id: i64) -> Value {
    sqlx::query_scalar("SELECT to_jsonb(j) FROM polar_jobs.jobs j WHERE id = $1")
        .bind(id)
        .fetch_one(pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_retry_that_a_waiting_duplicate_makes_needless_says_so_and_changes_nothing() {
    // Beside its ordering key, behind a job that runs with it, and without one.
    for (ordering_key, runs) in [
        (None, false),
        (Some("acme"), false),
        (Some("customer acme"), false),
        (Some("customer acme"), true),
    ] {
        let database = testing::database(polar_jobs::migrate::migrator).await;
        let (pool, url) = (&database.pool, &database.url);
        let old = enqueue_plan(pool, ordering_key, "free").await;
        assert_eq!(act(url, "discard", old).0, Some(0));
        if runs {
            let running = enqueue_plan(pool, ordering_key, "free").await;
            claim(pool, running, 7).await;
        }
        let duplicate = enqueue_plan(pool, ordering_key, "pro").await;
        let later = "UPDATE polar_jobs.jobs SET run_at = now() + interval '1 day', priority = 9 WHERE id = $1";
        sqlx::query(later)
            .bind(duplicate)
            .execute(pool)
            .await
            .unwrap();
        let waiting = row(pool, duplicate).await;

        let (code, out) = act(url, "retry", old);
        assert_eq!(code, Some(1), "{ordering_key:?} {runs}");
        assert!(
            out.contains(&format!("job {duplicate} waits with the same unique key")),
            "{out}"
        );
        assert_eq!(show(url, old)["state"], "discarded");
        assert_eq!(row(pool, duplicate).await, waiting);

        let all = ["jobs", "retry", "--kind", "sync_customer", "--yes"];
        let said = with_database(url, &all);
        assert_eq!(said.out.trim(), "0 jobs retried", "{}", said.err);
        assert_eq!(show(url, old)["state"], "discarded");
        assert_eq!(row(pool, duplicate).await, waiting);
        let recorded =
            "SELECT count(*) FROM polar_jobs.operator_actions WHERE action = 'jobs retry'";
        let recorded: i64 = sqlx::query_scalar(recorded).fetch_one(pool).await.unwrap();
        assert_eq!(recorded, 0);
    }
}

#[tokio::test]
async fn a_retry_reopens_the_event_that_caused_the_job() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let (pool, url) = (&database.pool, &database.url);
    let change = r#"{"id": "1dbfc517-0bbf-4301-9ba8-555ca42b9737"}"#;
    let event: i64 =
        sqlx::query_scalar("SELECT polar_jobs.record_change('organization.deleted', $1::jsonb)")
            .bind(change)
            .fetch_one(pool)
            .await
            .unwrap();
    let id: i64 = sqlx::query_scalar("SELECT id FROM polar_jobs.jobs")
        .fetch_one(pool)
        .await
        .unwrap();
    let outcome = || async {
        let outcome: Option<String> =
            sqlx::query_scalar("SELECT outcome FROM polar_jobs.external_events WHERE id = $1")
                .bind(event)
                .fetch_one(pool)
                .await
                .unwrap();
        outcome
    };
    assert_eq!(act(url, "discard", id).0, Some(0));
    assert_eq!(outcome().await.as_deref(), Some("failed"));
    assert_eq!(act(url, "retry", id).0, Some(0));
    assert_eq!(outcome().await, None);
}

#[tokio::test]
async fn a_waiting_job_is_made_to_run_now() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let (pool, url) = (&database.pool, &database.url);
    let id = enqueue(pool, "sync_customer", None, None).await;
    sqlx::query("UPDATE polar_jobs.jobs SET run_at = now() + interval '1 day' WHERE id = $1")
        .bind(id)
        .execute(pool)
        .await
        .unwrap();
    assert_eq!(act(url, "retry", id).0, Some(0));
    assert!(!why(url, id).contains("not before"));
}

#[tokio::test]
async fn a_running_job_is_cancelled_and_its_worker_can_no_longer_finish_it() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let (pool, url) = (&database.pool, &database.url);
    let id = enqueue(pool, "sync_customer", None, Some("customer acme")).await;
    claim(pool, id, 7).await;
    assert_eq!(
        act(url, "retry", id).0,
        Some(1),
        "what runs cannot be retried"
    );
    let (code, out) = act(url, "cancel", id);
    assert_eq!(code, Some(0));
    assert!(out.contains("nothing of that is stored"), "{out}");
    // The fence of every finish.
    let finished = sqlx::query(
        "DELETE FROM polar_jobs.live_jobs WHERE id = $1 AND attempt = 1 AND worker = 7",
    )
    .bind(id)
    .execute(pool)
    .await
    .unwrap();
    assert_eq!(finished.rows_affected(), 0);
    let job = show(url, id);
    assert_eq!(
        (&job["state"], &job["unique_key"]),
        (&"cancelled".into(), &"customer acme".into())
    );
}

#[tokio::test]
async fn a_bulk_action_that_waits_in_a_circle_with_the_end_of_its_jobs_gives_way_and_is_done_again()
{
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let (pool, url) = (&database.pool, &database.url);
    let first = enqueue(pool, "sync_customer", None, None).await;
    let second = enqueue(pool, "sync_customer", None, None).await;
    for id in [first, second] {
        claim(pool, id, 7).await;
    }
    // The command is the first to look whether it waits in a circle, and there is one by then.
    sqlx::query("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET deadlock_timeout = 3000', current_database()); END $$")
        .execute(pool)
        .await
        .unwrap();
    let mut ending = pool.begin().await.unwrap();
    sqlx::query("SET LOCAL deadlock_timeout = '1min'")
        .execute(&mut *ending)
        .await
        .unwrap();
    let hold = async |ending: &mut PgConnection, id: i64| {
        sqlx::query("SELECT 1 FROM polar_jobs.live_jobs WHERE id = $1 FOR UPDATE")
            .bind(id)
            .execute(ending)
            .await
            .unwrap()
    };
    hold(&mut ending, second).await;
    let command_url = url.clone();
    let cancelling = tokio::task::spawn_blocking(move || {
        let arguments = [
            "cancel",
            "--state",
            "running",
            "--kind",
            "sync_customer",
            "--yes",
        ];
        with_database(&command_url, &[&["jobs"], &arguments[..]].concat())
    });
    eventually("the command waits for the second job", async || {
        testing::sessions_waiting_for_a_lock(pool).await == 1
    })
    .await;
    hold(&mut ending, first).await;
    ending.commit().await.unwrap();
    let cancelled = cancelling.await.unwrap();
    assert_eq!(cancelled.code, Some(0), "{}", cancelled.err);
    assert_eq!(cancelled.out.trim(), "2 jobs cancelled");
}

#[tokio::test]
async fn a_bulk_action_needs_a_filter_and_a_yes() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let (pool, url) = (&database.pool, &database.url);
    for _ in 0..3 {
        enqueue(pool, "sync_customer", None, None).await;
    }
    let other = enqueue(pool, "sync_member", None, None).await;

    let unfiltered = with_database(url, &["jobs", "cancel", "--yes"]);
    assert_eq!(unfiltered.code, Some(2), "{}", unfiltered.out);
    let unconfirmed = with_database(url, &["jobs", "cancel", "--kind", "sync_customer"]);
    assert_eq!(unconfirmed.code, Some(2));
    assert!(unconfirmed.err.contains("3 jobs"), "{}", unconfirmed.err);
    let pointless = with_database(url, &["jobs", "cancel", "--state", "completed", "--yes"]);
    assert_eq!(pointless.code, Some(2), "{}", pointless.out);
    let confirmed = with_database(url, &["jobs", "cancel", "--kind", "sync_customer", "--yes"]);
    assert_eq!(
        (confirmed.code, confirmed.out.trim()),
        (Some(0), "3 jobs cancelled")
    );
    assert_eq!(show(url, other)["state"], "available");

    let back = with_database(
        url,
        &[
            "jobs",
            "retry",
            "--kind",
            "sync_customer",
            "--state",
            "cancelled",
            "--limit",
            "2",
            "--yes",
        ],
    );
    assert_eq!(back.out.trim(), "2 jobs retried");
}

#[tokio::test]
async fn jobs_that_were_acknowledged_are_neither_counted_nor_touched_again() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let (pool, url) = (&database.pool, &database.url);
    for _ in 0..3 {
        let id = enqueue(pool, "call_app", None, None).await;
        act(url, "discard", id);
    }
    let acknowledge = |more: &[&str]| {
        let arguments = [&["jobs", "acknowledge", "--kind", "call_app"], more].concat();
        with_database(url, &arguments)
    };
    for left in ["3 jobs", "2 jobs", "1 job"] {
        let asked = acknowledge(&[]);
        let words = format!("would touch {left};");
        assert!(asked.err.contains(&words), "{left}: {}", asked.err);
        let one = acknowledge(&["--limit", "1", "--yes"]);
        assert_eq!(one.out.trim(), "1 job acknowledged", "{left}");
    }
    let nothing = acknowledge(&[]);
    assert_eq!(
        (nothing.code, nothing.out.trim()),
        (Some(0), "there is no such job to acknowledge")
    );
}
