//! `operator_actions`: every command that changes something leaves its row, in the transaction of the change.

use private_postgres::testing;
use private_postgres::testing::TestDatabase;
use serde_json::Value;
use sqlx::PgPool;
use uuid::Uuid;

use super::support::{Said, with_database};

/// Actor, action, target and organization of every row, oldest first.
async fn actions(pool: &PgPool) -> Vec<(String, String, String, Option<Uuid>)> {
    sqlx::query_as(
        "SELECT actor, action, target, organization_id FROM polar_jobs.operator_actions ORDER BY id",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

async fn detail(pool: &PgPool) -> Value {
    sqlx::query_scalar("SELECT detail FROM polar_jobs.operator_actions ORDER BY id DESC LIMIT 1")
        .fetch_one(pool)
        .await
        .unwrap()
}

async fn job_about(pool: &PgPool, organization: Uuid) -> i64 {
    sqlx::query_scalar(
        "SELECT polar_jobs.enqueue('sync_customer', jsonb_build_object('organization_id', $1::text))",
    )
    .bind(organization.to_string())
    .fetch_one(pool)
    .await
    .unwrap()
}

async fn database() -> TestDatabase {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    sqlx::query(
        "INSERT INTO polar_jobs.schedules (name, cron, next_tick) VALUES ('prune', '0 3 * * *', now())",
    )
    .execute(&database.pool)
    .await
    .unwrap();
    database
}

fn by_ada(url: &str, arguments: &[&str]) -> Said {
    with_database(url, &[&["--actor", "Ada"], arguments].concat())
}

#[tokio::test]
async fn each_command_that_changes_something_leaves_a_row_with_its_actor_and_its_organization() {
    let database = database().await;
    let (pool, url) = (&database.pool, &database.url);
    let organization = Uuid::new_v4();
    let job = job_about(pool, organization).await;
    let id = job.to_string();
    let target = format!("job/{id}");
    let organization_text = organization.to_string();
    for (arguments, action, target, organization) in [
        (
            &["queues", "pause", "mail"][..],
            "queues pause",
            "queue/mail",
            None,
        ),
        (
            &["queues", "resume", "mail"],
            "queues resume",
            "queue/mail",
            None,
        ),
        (
            &["schedules", "run", "prune"],
            "schedules run",
            "schedule/prune",
            None,
        ),
        (
            &["jobs", "retry", &id],
            "jobs retry",
            &target,
            Some(organization),
        ),
        (
            &["jobs", "cancel", &id],
            "jobs cancel",
            &target,
            Some(organization),
        ),
        (
            &["jobs", "retry", &id],
            "jobs retry",
            &target,
            Some(organization),
        ),
        (
            &["jobs", "discard", &id],
            "jobs discard",
            &target,
            Some(organization),
        ),
        (
            &[
                "jobs",
                "retry",
                "--organization",
                &organization_text,
                "--yes",
            ],
            "jobs retry",
            "jobs",
            Some(organization),
        ),
        (
            &["usage", "begin", "--since", "2026-11-01"],
            "usage begin",
            "usage",
            None,
        ),
    ] {
        let before = actions(pool).await.len();
        let said = by_ada(url, arguments);
        assert_eq!(said.code, Some(0), "{arguments:?}: {}", said.err);
        let rows = actions(pool).await;
        assert_eq!(rows.len(), before + 1, "{arguments:?}");
        let expected = (
            "Ada".to_owned(),
            action.to_owned(),
            target.to_owned(),
            organization,
        );
        assert_eq!(rows[before], expected, "{arguments:?}");
    }
    assert_eq!(detail(pool).await["since"], "2026-11-01T00:00:00Z");
}

#[tokio::test]
async fn reports_and_costs_that_are_sent_again_leave_a_row_with_their_number() {
    let database = database().await;
    let (pool, url) = (&database.pool, &database.url);
    let organization = Uuid::new_v4();
    for refused in [
        "WITH closed AS (INSERT INTO polar_jobs.usage_windows (window_end, from_xid, to_xid, event_timestamp, readings)
                         VALUES ('2026-11-01Z', 1, 2, '2026-11-01Z', 1) RETURNING window_end)
         INSERT INTO polar_jobs.usage_reports (window_end, organization_id, quantity, readings, external_id, state, reason)
         SELECT window_end, $1, 1, 1, 'one', 'refused', 'too large' FROM closed",
        "INSERT INTO polar_jobs.costs (organization_id, source, cost_usd, state, reason)
         VALUES ($1, 'compass_assistant', 1, 'refused', 'too large')",
    ] {
        sqlx::query(refused).bind(organization).execute(pool).await.unwrap();
    }
    for (command, number) in [("usage", "reports"), ("costs", "costs")] {
        let asked = by_ada(url, &[command, "retry"]);
        assert_eq!(asked.code, Some(2), "without --yes it only counts");
        let said = by_ada(url, &[command, "retry", "--yes"]);
        assert_eq!(said.code, Some(0), "{}", said.err);
        assert_eq!(detail(pool).await, serde_json::json!({ number: 1 }));
        assert_eq!(by_ada(url, &[command, "retry", "--yes"]).code, Some(0));
    }
    let names: Vec<String> = actions(pool).await.into_iter().map(|row| row.1).collect();
    assert_eq!(
        names,
        ["usage retry", "costs retry"],
        "a second retry found nothing to do"
    );
}

#[tokio::test]
async fn a_bulk_action_says_what_was_meant_and_how_many_jobs_it_touched() {
    let database = database().await;
    let (pool, url) = (&database.pool, &database.url);
    for _ in 0..3 {
        job_about(pool, Uuid::new_v4()).await;
    }
    let arguments = ["jobs", "cancel", "--kind", "sync_customer"];
    assert_eq!(by_ada(url, &arguments).code, Some(2));
    assert_eq!(actions(pool).await, [], "a question changes nothing");
    let said = by_ada(url, &[&arguments[..], &["--yes"]].concat());
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(actions(pool).await.len(), 1);
    let detail = detail(pool).await;
    assert_eq!(
        (&detail["jobs"], &detail["kind"], &detail["state"]),
        (&3.into(), &"sync_customer".into(), &"available".into())
    );
}

#[tokio::test]
async fn an_action_that_fails_or_finds_nothing_to_do_leaves_no_row() {
    let database = database().await;
    let (pool, url) = (&database.pool, &database.url);
    let job = job_about(pool, Uuid::new_v4()).await.to_string();
    assert_eq!(by_ada(url, &["jobs", "cancel", &job]).code, Some(0));
    let before = actions(pool).await;
    for (arguments, code) in [
        (&["queues", "pause", "nobody"][..], 2),
        (&["queues", "resume", "nobody"], 2),
        (&["schedules", "run", "nobody"], 2),
        (&["jobs", "cancel", &job], 1),
        (&["jobs", "discard", "4711"], 1),
        (&["jobs", "retry", "4711"], 1),
        (&["usage", "adopt"], 0),
    ] {
        assert_eq!(by_ada(url, arguments).code, Some(code), "{arguments:?}");
        assert_eq!(actions(pool).await, before, "{arguments:?}");
    }
}

#[tokio::test]
async fn nothing_is_done_that_cannot_be_recorded() {
    let database = database().await;
    let (pool, url) = (&database.pool, &database.url);
    let job = job_about(pool, Uuid::new_v4()).await;
    sqlx::query("ALTER TABLE polar_jobs.operator_actions ADD CHECK (false)")
        .execute(pool)
        .await
        .unwrap();
    for arguments in [
        &["queues", "pause", "mail"][..],
        &["schedules", "run", "prune"],
        &["jobs", "cancel", &job.to_string()],
        &["jobs", "discard", "--kind", "sync_customer", "--yes"],
        &["usage", "begin", "--since", "2026-11-01"],
    ] {
        assert_eq!(by_ada(url, arguments).code, Some(1), "{arguments:?}");
    }
    let untouched: bool = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM polar_jobs.queues WHERE paused_at IS NOT NULL) = 0
            AND (SELECT array_agg(id) FROM polar_jobs.jobs WHERE state = 'available') = ARRAY[$1]
            AND (SELECT since FROM polar_jobs.usage_cursor) IS DISTINCT FROM '2026-11-01Z'",
    )
    .bind(job)
    .fetch_one(pool)
    .await
    .unwrap();
    assert!(untouched);
}

#[tokio::test]
async fn without_an_actor_the_system_user_is_named() {
    let database = database().await;
    let said = with_database(&database.url, &["queues", "pause", "mail"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let user = std::process::Command::new("id")
        .arg("-un")
        .output()
        .unwrap();
    let user = String::from_utf8(user.stdout).unwrap();
    assert_eq!(actions(&database.pool).await[0].0, user.trim());
    for unusable in ["", " ", "a\nb"] {
        let said = with_database(
            &database.url,
            &["queues", "pause", "mail", "--actor", unusable],
        );
        assert_eq!(said.code, Some(2), "{unusable:?}");
    }
}
