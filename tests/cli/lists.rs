//! Lists: tables for people, one JSON array for programs.

use private_postgres::testing;
use serde_json::Value;

use super::support::with_database;

const ACME: &str = "1dbfc517-0bbf-4301-9ba8-555ca42b9737";

async fn enqueue(pool: &sqlx::PgPool, kind: &str, organization: &str) -> i64 {
    sqlx::query_scalar("SELECT polar_jobs.enqueue($1, jsonb_build_object('organization_id', $2))")
        .bind(kind)
        .bind(organization)
        .fetch_one(pool)
        .await
        .unwrap()
}

fn array(url: &str, arguments: &[&str]) -> Vec<Value> {
    let said = with_database(url, arguments);
    assert_eq!(said.code, Some(0), "{}", said.err);
    serde_json::from_str(&said.out).unwrap()
}

fn ids(rows: &[Value]) -> Vec<i64> {
    rows.iter().map(|row| row["id"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn jobs_are_listed_newest_first_filtered_and_limited() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let mut made = Vec::new();
    for number in 0..60 {
        let organization = if number % 2 == 0 {
            ACME
        } else {
            "2dbfc517-0bbf-4301-9ba8-555ca42b9737"
        };
        made.push(enqueue(&database.pool, "sync_customer", organization).await);
    }
    let mail = enqueue(&database.pool, "send_email", ACME).await;
    let url = &database.url;
    made.push(mail);
    made.reverse();

    assert_eq!(
        ids(&array(url, &["jobs", "list", "--format", "json"])),
        made[..50]
    );
    assert_eq!(
        ids(&array(
            url,
            &["jobs", "list", "--format", "json", "--limit", "100"]
        )),
        made
    );
    assert_eq!(
        ids(&array(
            url,
            &["jobs", "list", "--format", "json", "--kind", "send_email"]
        )),
        [mail]
    );
    let acme = array(
        url,
        &[
            "jobs",
            "list",
            "--format",
            "json",
            "--organization",
            ACME,
            "--limit",
            "100",
        ],
    );
    assert_eq!(acme.len(), 31);
    assert!(
        acme.iter()
            .all(|row| row["payload"]["organization_id"] == ACME)
    );
    assert!(
        array(
            url,
            &["jobs", "list", "--format", "json", "--state", "discarded"]
        )
        .is_empty()
    );
    assert!(
        array(
            url,
            &["jobs", "list", "--format", "json", "--queue", "bulk"]
        )
        .is_empty()
    );
}

#[tokio::test]
async fn a_row_of_json_has_every_column_of_the_contract() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    enqueue(&database.pool, "sync_customer", ACME).await;
    let row = array(&database.url, &["jobs", "list", "--format", "json"]).remove(0);
    let columns = "id queue kind payload state priority run_at attempt max_attempts unique_key ordering_key worker \
                   leased_until errors created_at started_at finished_at";
    for column in columns.split_whitespace() {
        assert!(row.get(column).is_some(), "{column}");
    }
}

#[tokio::test]
async fn a_table_has_a_header_and_a_line_per_row_without_colours() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let id = enqueue(&database.pool, "sync_customer", ACME).await;
    let said = with_database(&database.url, &["jobs", "list"]);
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines.len(), 2, "{}", said.out);
    assert!(
        lines[0].contains("kind")
            && lines[1].contains(&id.to_string())
            && lines[1].contains("available")
    );
    assert!(!said.out.contains('\u{1b}'));
}

#[tokio::test]
async fn a_limit_of_nothing_is_wrong_usage_everywhere() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    for list in ["jobs", "queues", "schedules", "events", "usage", "costs"] {
        for limit in ["--limit=0", "--limit=-1"] {
            let said = with_database(&database.url, &[list, "list", limit]);
            assert_eq!(said.code, Some(2), "{list} {limit}: {}", said.err);
        }
    }
}

#[tokio::test]
async fn queues_are_paused_and_resumed_by_name() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let url = &database.url;
    let paused = |rows: Vec<Value>| -> Vec<String> {
        rows.iter()
            .filter(|row| !row["paused_at"].is_null())
            .map(|row| row["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        with_database(url, &["queues", "pause", "mail"]).code,
        Some(0)
    );
    assert_eq!(
        paused(array(url, &["queues", "list", "--format", "json"])),
        ["mail"]
    );
    assert_eq!(
        with_database(url, &["queues", "resume", "mail"]).code,
        Some(0)
    );
    assert!(paused(array(url, &["queues", "list", "--format", "json"])).is_empty());
    let unknown = with_database(url, &["queues", "pause", "post"]);
    assert_eq!(unknown.code, Some(2));
    assert!(
        unknown.err.contains("bulk, default, mail, support"),
        "{}",
        unknown.err
    );
}

#[tokio::test]
async fn schedules_are_known_after_migrate_and_started_by_hand() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let url = &database.url;
    assert_eq!(with_database(url, &["migrate"]).code, Some(0));
    let schedules = array(url, &["schedules", "list", "--format", "json"]);
    let prune = schedules.iter().find(|row| row["name"] == "prune").unwrap();
    assert!(prune["cron"].is_string() && prune["next_tick"].is_string());
    let started = with_database(url, &["schedules", "run", "prune"]);
    assert_eq!(started.code, Some(0), "{}", started.err);
    assert_eq!(
        array(
            url,
            &["jobs", "list", "--kind", "prune", "--format", "json"]
        )
        .len(),
        1
    );
    let unknown = with_database(url, &["schedules", "run", "rinse"]);
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.err.contains("prune"), "{}", unknown.err);
}

#[tokio::test]
async fn a_run_that_is_started_by_hand_begins_by_the_clock_of_the_database() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    assert_eq!(with_database(&database.url, &["migrate"]).code, Some(0));
    // A function that stands before its own lets Postgres be ten years behind this host.
    sqlx::raw_sql(
        "CREATE SCHEMA shadow;
         CREATE FUNCTION shadow.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
         $$ SELECT pg_catalog.clock_timestamp() - interval '10 years' $$",
    )
    .execute(&database.pool)
    .await
    .unwrap();
    let behind = format!("{}&options=-csearch_path%3Dshadow,pg_catalog", database.url);
    let started = with_database(&behind, &["schedules", "run", "reconcile"]);
    assert_eq!(started.code, Some(0), "{}", started.err);
    let begins: bool = sqlx::query_scalar(
        "SELECT (payload ->> 'since')::timestamptz < now() - interval '9 years' FROM polar_jobs.jobs WHERE kind = 'reconcile'",
    )
    .fetch_one(&database.pool)
    .await
    .unwrap();
    assert!(
        begins,
        "it would compare everybody again until that clock is reached"
    );
}

#[tokio::test]
async fn events_are_listed_and_shown_with_their_jobs() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let url = &database.url;
    // Some applications write ids in upper case, and what they wrote is kept.
    let told = ACME.to_uppercase();
    let event: i64 = sqlx::query_scalar(
        "SELECT polar_jobs.record_change('organization.deleted', jsonb_build_object('id', $1::text), 'change-1')",
    )
    .bind(&told)
    .fetch_one(&database.pool)
    .await
    .unwrap();
    let rows = array(
        url,
        &["events", "list", "--format", "json", "--organization", ACME],
    );
    assert_eq!(ids(&rows), [event]);
    assert_eq!(
        (&rows[0]["type"], &rows[0]["external_id"]),
        (&"organization.deleted".into(), &"change-1".into())
    );
    assert!(
        array(
            url,
            &["events", "list", "--format", "json", "--source", "polar"]
        )
        .is_empty()
    );
    let shown = with_database(url, &["events", "show", &event.to_string()]);
    assert!(
        shown.out.contains("apply_change") && shown.out.contains(&told),
        "{}",
        shown.out
    );
    assert_eq!(
        with_database(url, &["events", "show", "424242"]).code,
        Some(1)
    );
}
