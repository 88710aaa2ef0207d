//! No row of a table can end a command: whatever an application or an operator wrote is shown.

use private_postgres::testing;
use serde_json::value::RawValue;

use super::support::{Said, with_database};

const ACME: &str = "1dbfc517-0bbf-4301-9ba8-555ca42b9737";
/// Both infinities, and the first and the last day that Postgres knows.
const TIMES: [&str; 4] = ["infinity", "-infinity", "4714-11-24 BC", "294276-12-31"];
const SHOWN: [&str; 4] = ["infinity", "-infinity", "-4713-11-24", "294276-12-31"];

fn both_forms(url: &str, arguments: &[&str]) -> (Said, Said) {
    let table = with_database(url, arguments);
    let json = with_database(url, &[arguments, &["--format", "json"]].concat());
    for said in [&table, &json] {
        assert_eq!(said.code, Some(0), "{arguments:?}: {}", said.err);
        assert!(
            !said.out.contains('\x1b') && !said.out.contains('\x07'),
            "{arguments:?}"
        );
    }
    (table, json)
}

/// One whole JSON value, however deep and with whatever numbers.
fn is_json(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok()
}

fn shows_all_times(arguments: &[&str], said: &(Said, Said)) {
    for shown in SHOWN {
        assert!(
            said.0.out.contains(shown),
            "{arguments:?}: {shown} in\n{}",
            said.0.out
        );
        assert!(
            said.1.out.contains(shown),
            "{arguments:?}: {shown} in\n{}",
            said.1.out
        );
    }
    assert!(is_json(said.1.out.trim()), "{}", said.1.out);
}

#[tokio::test]
async fn jobs_of_any_time_and_any_json_are_listed_and_shown() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let (pool, url) = (&database.pool, &database.url);
    let deep = format!("{{\"a\": {}1{}}}", "[".repeat(500), "]".repeat(500));
    let large = "{\"n\": 1e999, \"text\": \"\\u001b[2J\\u0007\"}".to_owned();
    let long = format!("{{\"text\": \"{}\"}}", "x".repeat(1 << 20));
    let payloads = [deep, large, long, "{}".to_owned()];
    for (time, payload) in TIMES.iter().zip(&payloads) {
        sqlx::query(
            "INSERT INTO polar_jobs.live_jobs (kind, payload, errors, run_at, created_at, started_at, note)
             VALUES (E'a kind\\x1b[2J', $2::text::jsonb, $2::text::jsonb, $1::text::timestamptz, $1::text::timestamptz,
                     $1::text::timestamptz, E'beep \\x07')",
        )
        .bind(time)
        .bind(payload)
        .execute(pool)
        .await
        .unwrap();
    }
    sqlx::raw_sql(
        "INSERT INTO polar_jobs.workers (host, pid, version, started_at, leased_until)
         VALUES ('far', 1, '9', '-infinity', 'infinity');
         UPDATE polar_jobs.live_jobs SET worker = (SELECT id FROM polar_jobs.workers) WHERE run_at = 'infinity';
         UPDATE polar_jobs.queues SET paused_at = 'infinity' WHERE name = 'default';
         UPDATE polar_jobs.queues SET paused_at = '-infinity' WHERE name = 'mail'",
    )
    .execute(pool)
    .await
    .unwrap();
    let listed = both_forms(url, &["jobs", "list"]);
    shows_all_times(&["jobs", "list"], &listed);
    let ids: Vec<i64> = sqlx::query_scalar("SELECT id FROM polar_jobs.jobs ORDER BY id")
        .fetch_all(pool)
        .await
        .unwrap();
    for id in ids {
        let (_, json) = both_forms(url, &["jobs", "show", &id.to_string()]);
        assert!(is_json(json.out.trim()) && json.out.contains("\"what_can_be_done\":["));
    }
    both_forms(url, &["queues", "list"]);
    let doctor = with_database(url, &["doctor"]);
    assert!(
        doctor.out.contains("queues resume mail"),
        "{}\n{}",
        doctor.out,
        doctor.err
    );
}

#[tokio::test]
async fn finished_jobs_of_any_time_are_listed_and_shown() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    for time in TIMES {
        sqlx::query(
            "INSERT INTO polar_jobs.finished_jobs (id, run_at, created_at, started_at, finished_at, attempt, max_attempts,
                    priority, state, queue, kind, payload, errors)
             VALUES (nextval('polar_jobs.live_jobs_id_seq'), $1::text::timestamptz, $1::text::timestamptz,
                     $1::text::timestamptz, $1::text::timestamptz, 1, 1, 0, 'discarded', 'default', 'k', '[]', '7')",
        )
        .bind(time)
        .execute(&database.pool)
        .await
        .unwrap();
    }
    let listed = both_forms(&database.url, &["jobs", "list"]);
    shows_all_times(&["jobs", "list"], &listed);
    let ids: Vec<i64> = sqlx::query_scalar("SELECT id FROM polar_jobs.jobs")
        .fetch_all(&database.pool)
        .await
        .unwrap();
    for id in ids {
        both_forms(&database.url, &["jobs", "show", &id.to_string()]);
    }
}

#[tokio::test]
async fn events_of_any_time_and_any_json_are_listed_and_shown() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let pool = &database.pool;
    let change =
        "SELECT polar_jobs.record_change('organization.deleted', jsonb_build_object('id', $1))";
    for _ in TIMES {
        sqlx::query(change).bind(ACME).execute(pool).await.unwrap();
    }
    let deep = format!("{{\"a\": {}{}}}", "[".repeat(500), "]".repeat(500));
    sqlx::query("UPDATE polar_jobs.stored_events SET change = $1::text::jsonb, external_id = E'\\x1b[2J' || id")
        .bind(deep)
        .execute(pool)
        .await
        .unwrap();
    for (place, time) in TIMES.iter().enumerate() {
        sqlx::query(
            "UPDATE polar_jobs.stored_events SET received_at = $1::text::timestamptz
              WHERE id = (SELECT id FROM polar_jobs.stored_events ORDER BY id OFFSET $2 LIMIT 1)",
        )
        .bind(time)
        .bind(i64::try_from(place).unwrap())
        .execute(pool)
        .await
        .unwrap();
    }
    let listed = both_forms(&database.url, &["events", "list"]);
    shows_all_times(&["events", "list"], &listed);
    let ids: Vec<i64> = sqlx::query_scalar("SELECT id FROM polar_jobs.external_events")
        .fetch_all(pool)
        .await
        .unwrap();
    for id in ids {
        both_forms(&database.url, &["events", "show", &id.to_string()]);
    }
}

#[tokio::test]
async fn schedules_costs_and_reports_of_any_time_are_listed() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    for time in TIMES {
        sqlx::query(
            "INSERT INTO polar_jobs.schedules (name, cron, next_tick, last_tick, paused_at)
             VALUES ('at ' || $1::text, '* * * * *', $1::text::timestamptz, $1::text::timestamptz, $1::text::timestamptz)",
        )
        .bind(time)
        .execute(&database.pool)
        .await
        .unwrap();
        sqlx::query(
            "INSERT INTO polar_jobs.costs (organization_id, source, cost_usd, recorded_at)
             VALUES ($2::text::uuid, 'compass_assistant', 1, $1::text::timestamptz)",
        )
        .bind(time)
        .bind(ACME)
        .execute(&database.pool)
        .await
        .unwrap();
    }
    for arguments in [["schedules", "list"], ["costs", "list"]] {
        let listed = both_forms(&database.url, &arguments);
        shows_all_times(&arguments, &listed);
    }
}
