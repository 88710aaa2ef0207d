//! Nothing says "ok" to what it cannot see: what `doctor`, the lists and the gauges tell in situations that look
//! well from where they stand.

#[path = "../signature/mod.rs"]
mod signature;

use std::io::{Read, Write};
use std::net::TcpStream;

use chrono::Utc;
use private_postgres::testing;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use uuid::Uuid;

use simulator::Options;

use crate::free_port::free_port;
use crate::local_polar::LocalPolar;

use super::support::{
    Said, ended, line_with, run, run_beside, signal, start, try_get, until, with_database,
};
use signature::sign;

const ACME: &str = "1dbfc517-0bbf-4301-9ba8-555ca42b9737";
const GLOBEX: &str = "2dbfc517-0bbf-4301-9ba8-555ca42b9737";

pub(super) fn line<'s>(said: &'s Said, about: &str) -> &'s str {
    let found = said
        .out
        .lines()
        .find(|line| line.split_whitespace().nth(1) == Some(about));
    found.unwrap_or_else(|| panic!("nothing about {about} in:\n{}{}", said.out, said.err))
}

async fn doctor(url: &str) -> Said {
    run_beside(&[("DATABASE_URL", url)], &["doctor"]).await
}

pub(super) async fn execute(pool: &PgPool, sql: impl Into<String>) {
    sqlx::raw_sql(AssertSqlSafe(sql.into()))
        .execute(pool)
        .await
        .unwrap();
}

/// A role of its own in the server that all tests share, and the URL with which it comes to the database.
pub(super) async fn role(pool: &PgPool, url: &str, what: &str) -> (String, String) {
    let name = format!("{what}_{}", Uuid::new_v4().simple());
    execute(pool, format!("CREATE ROLE {name} LOGIN")).await;
    let theirs = url.replacen("://postgres@", &format!("://{name}@"), 1);
    assert_ne!(theirs, url);
    (name, theirs)
}

async fn add_organization(pool: &PgPool, id: &str, name: &str) {
    let insert = "INSERT INTO polar_jobs.organizations (id, name, slug, status, event_id) VALUES ($1::text::uuid, $2, 's', 'active', 0)";
    let insert = sqlx::query(insert).bind(id).bind(name);
    insert.execute(pool).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_held_back_by_a_session_that_our_role_may_not_see_is_an_error_that_names_the_grant() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let (pool, url) = (&database.pool, &database.url);
    let (service, ours) = role(pool, url, "service").await;
    let (shop, theirs) = role(pool, url, "shop").await;
    execute(
        pool,
        format!(
            "GRANT USAGE ON SCHEMA polar_jobs TO {service};
             GRANT SELECT ON ALL TABLES IN SCHEMA polar_jobs TO {service};
             GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA polar_jobs TO {service}"
        ),
    )
    .await;
    let ok = doctor(&ours).await;
    assert!(line(&ok, "usage").starts_with("ok"), "{}", ok.out);

    let mut connection = PgConnection::connect(&theirs).await.unwrap();
    let mut open = connection.begin().await.unwrap();
    let held = "SELECT pg_current_xact_id()::text";
    sqlx::query(held).execute(&mut *open).await.unwrap();
    let recorded = format!(
        "INSERT INTO polar_jobs.usage (organization_id, quantity, written_at)
         VALUES ('{ACME}', 3, now() - interval '17 minutes')"
    );
    execute(pool, recorded).await;

    // Other tests share the server and may hold the horizon for a moment.
    until(async || line(&doctor(&ours).await, "usage").contains(&shop)).await;
    let said = doctor(&ours).await;
    let usage = line(&said, "usage");
    assert!(usage.starts_with("error"), "{usage}");
    assert!(usage.contains("not counted since "), "{usage}");
    let grant = format!("GRANT pg_read_all_stats TO {service}");
    assert!(usage.contains(&grant), "{usage}");
    assert!(usage.contains("pg_terminate_backend("), "{usage}");

    let prove = with_database(&ours, &["usage", "prove", "--organization", ACME]);
    assert_eq!(prove.code, Some(1), "{}", prove.out);
    assert!(
        prove.out.contains("windows stand still since"),
        "{}",
        prove.out
    );
    assert!(prove.out.contains("1 reading waits"), "{}", prove.out);
    assert!(!prove.out.contains("it adds up"), "{}", prove.out);

    execute(pool, grant).await;
    until(async || line(&doctor(&ours).await, "usage").contains("idle in transaction, open for"))
        .await;

    open.rollback().await.unwrap();
    until(async || line(&doctor(&ours).await, "usage").contains("no open transaction")).await;
    until(async || {
        execute(pool, "SELECT polar_jobs.close_usage_window(NULL)").await;
        line(&doctor(&ours).await, "usage").starts_with("ok")
    })
    .await;
}

/// Posts a delivery that is signed with `secret`; returns the status.
fn deliver(address: &str, secret: &str) -> String {
    let (id, body) = (
        Uuid::new_v4().to_string(),
        r#"{"type":"product.updated","data":{}}"#,
    );
    let timestamp = Utc::now().timestamp().to_string();
    let signature = sign(secret.as_bytes(), &id, &timestamp, body.as_bytes());
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "POST /integrations/polar/webhook HTTP/1.1\r\nhost: here\r\nconnection: close\r\nwebhook-id: {id}\r\n\
         webhook-timestamp: {timestamp}\r\nwebhook-signature: {signature}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer[9..12].to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_that_fit_no_secret_are_said_once_and_known_to_doctor() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let (pool, url) = (&database.pool, &database.url);
    let port = free_port();
    let settings = [
        ("DATABASE_URL", url.as_str()),
        ("PORT", &port.to_string()),
        ("POLAR_WEBHOOK_SECRET", "whsec_the_secret_of_today"),
    ];
    let mut ingress = start(&settings, &["ingress"]);
    let log = ingress.stderr.take().unwrap();
    let address = format!("127.0.0.1:{port}");
    until(async || try_get(&address, "/ready").is_some()).await;

    for _ in 0..5 {
        assert_eq!(deliver(&address, "whsec_the_secret_of_yesterday"), "401");
    }
    let warned = line_with(log, "fit no configured secret");
    assert!(
        warned.contains("WARN") && warned.contains("POLAR_WEBHOOK_SECRET"),
        "{warned}"
    );
    let noted =
        "SELECT count(*) FROM polar_jobs.refused_deliveries WHERE deliveries BETWEEN 1 AND 5";
    until(async || {
        sqlx::query_scalar::<_, i64>(noted)
            .fetch_one(pool)
            .await
            .unwrap()
            == 1
    })
    .await;
    let said = doctor(url).await;
    assert_eq!(said.code, Some(1));
    let refused = line(&said, "refused");
    assert!(refused.starts_with("error"), "{refused}");
    assert!(
        refused.contains("fit no secret of ours since") && refused.contains("POLAR_WEBHOOK_SECRET"),
        "{refused}"
    );

    // One that fits: then another endpoint's do not.
    assert_eq!(deliver(&address, "whsec_the_secret_of_today"), "202");
    assert!(line(&doctor(url).await, "refused").starts_with("warning"));
    execute(
        pool,
        "UPDATE polar_jobs.refused_deliveries SET last_at = now() - interval '2 hours'",
    )
    .await;
    assert!(!doctor(url).await.out.contains("fit no secret"));

    // A row of refusals begins after the last one that fitted.
    execute(pool, "SELECT polar_jobs.note_refused_deliveries(7)").await;
    let one: i64 = sqlx::query_scalar(
        "SELECT deliveries FROM polar_jobs.refused_deliveries WHERE since > now() - interval '1 hour'",
    )
    .fetch_one(pool)
    .await
    .unwrap();
    assert_eq!(one, 7);
    signal(&ingress, "TERM");
    assert_eq!(ended(&mut ingress), Some(Some(0)));
}

#[tokio::test]
async fn jobs_that_keep_failing_are_named_with_their_customers_and_the_last_error() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let (pool, url) = (&database.pool, &database.url);
    let ok = with_database(url, &["doctor"]);
    assert!(line(&ok, "failing").starts_with("ok"), "{}", ok.out);
    for (organization, name) in [(ACME, "Acme"), (GLOBEX, "Globex")] {
        add_organization(pool, organization, name).await;
        let enqueue = format!(
            "SELECT polar_jobs.enqueue('sync_customer', '{{\"organization_id\": \"{organization}\"}}')"
        );
        execute(pool, enqueue).await;
    }
    // Three failures, the first of them at a time that the test sets.
    let failed = |since: &str, times: i32| {
        format!(
            "UPDATE polar_jobs.live_jobs SET run_at = now() + interval '1 hour', errors = (
                SELECT jsonb_agg(jsonb_build_object('at', now() - interval '{since}', 'attempt', n, 'error', 'Polar said no ' || n))
                  FROM generate_series(1, {times}) n)"
        )
    };
    execute(pool, failed("3 hours", 2)).await;
    let few = with_database(url, &["doctor"]);
    assert!(line(&few, "failing").starts_with("ok"), "{}", few.out);
    // Named at once; whether it passes by itself nobody knows yet.
    execute(pool, failed("1 minute", 3)).await;
    let young = line(&with_database(url, &["doctor"]), "failing").to_owned();
    assert!(
        young.starts_with("warning") && young.contains("2 jobs of 2 customers (Acme, Globex)"),
        "{young}"
    );
    execute(pool, failed("3 hours", 3)).await;
    let said = with_database(url, &["doctor"]);
    assert_eq!(said.code, Some(1));
    let failing = line(&said, "failing");
    for words in [
        "error",
        "2 jobs of 2 customers (Acme, Globex) keep failing since ",
        "(sync_customer): Polar said no 3",
        "polar-jobs jobs retry ",
    ] {
        assert!(failing.contains(words), "{words}: {failing}");
    }
}

#[tokio::test]
async fn what_polar_does_not_have_as_wanted_is_a_warning_although_no_job_fails() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let (pool, url) = (&database.pool, &database.url);
    let ok = with_database(url, &["doctor"]);
    assert!(ok.out.contains("nothing was tried in vain"), "{}", ok.out);
    assert!(line(&ok, "differences").starts_with("ok"), "{}", ok.out);
    add_organization(pool, ACME, "Acme").await;
    add_organization(pool, GLOBEX, "Globex").await;
    let noted = format!(
        "SELECT polar_jobs.note_out_of_step('{ACME}', 'benefits', 'two benefits of one type');
         INSERT INTO polar_jobs.differences (organization_id, subject, cause) VALUES
            ('{ACME}', 'benefits', 'two benefits of one type'), ('{GLOBEX}', 'customer', 'changed at Polar')"
    );
    execute(pool, noted).await;
    let said = with_database(url, &["doctor"]);
    for words in [
        "1 subject not at Polar as wanted since ",
        "Acme benefits: two benefits of one type",
        // What has its reason above is not counted twice.
        "1 difference to Polar since ",
        "Globex customer: changed at Polar",
    ] {
        assert!(said.out.contains(words), "{words}: {}", said.out);
    }
}

#[tokio::test]
async fn who_is_tried_night_by_night_and_never_compared_is_a_warning() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let (pool, url) = (&database.pool, &database.url);
    let ours = Uuid::new_v4().to_string();
    let settings = [
        ("DATABASE_URL", url.as_str()),
        ("POLAR_API_URL", "http://127.0.0.1:1"),
        ("POLAR_ACCESS_TOKEN", "polar_oat_unused"),
        ("POLAR_ORGANIZATION_ID", &ours),
    ];
    let others = [(); 4].map(|()| Uuid::new_v4().to_string());
    let [new, in_step, unasked, gone] = &others;
    for id in [ACME, GLOBEX, &ours]
        .into_iter()
        .chain(others.iter().map(String::as_str))
    {
        add_organization(pool, id, "Acme").await;
    }
    // Of everybody: the name, when created, last tried, last compared.
    for (id, name, created, tried, compared) in [
        (ACME, "Acme", "70 days", "1 hour", "'60 hours'"),
        (GLOBEX, "Globex", "3 days", "1 hour", "NULL"),
        (&ours, "Ours", "70 days", "1 hour", "'60 days'"),
        (new, "New", "1 hour", "1 hour", "'60 days'"),
        (in_step, "In step", "70 days", "1 hour", "'1 hour'"),
        (unasked, "Not tried", "70 days", "60 days", "'60 days'"),
        (gone, "Gone", "70 days", "1 hour", "'60 days'"),
    ] {
        let noted = format!(
            "UPDATE polar_jobs.organizations SET name = '{name}', created_at = now() - interval '{created}' WHERE id = '{id}';
             INSERT INTO polar_jobs.comparisons (organization_id, tried_at, compared_at)
             VALUES ('{id}', now() - interval '{tried}', now() - {compared}::interval)"
        );
        execute(pool, noted).await;
    }
    let deleted = "UPDATE polar_jobs.organizations SET deleted_at = now() WHERE name = 'Gone'";
    execute(pool, deleted.to_owned()).await;
    let said = run_beside(&settings, &["doctor"]).await;
    let warned = line(&said, "comparison");
    for words in [
        "2 organizations could not be compared with Polar for more than 2 days",
        "Globex",
        &format!("polar-jobs reconcile --organization {GLOBEX}"),
    ] {
        assert!(warned.contains(words), "{words}: {warned}");
    }
    assert!(warned.starts_with("warning"), "{warned}");
    let compared = "UPDATE polar_jobs.comparisons SET compared_at = now()";
    execute(pool, compared.to_owned()).await;
    let said = run_beside(&settings, &["doctor"]).await;
    assert!(line(&said, "comparison").starts_with("ok"), "{}", said.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_is_not_alive_although_its_lease_lasts() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let (pool, url) = (&database.pool, &database.url);
    let mut worker = start(&[("DATABASE_URL", url)], &["worker"]);
    until(async || line(&doctor(url).await, "workers").contains("1 alive")).await;
    worker.kill().unwrap();
    until(async || line(&doctor(url).await, "workers").contains("none is alive")).await;
    let leased =
        "SELECT count(*) FROM polar_jobs.workers WHERE leased_until > now() + interval '1 second'";
    let leased: i64 = sqlx::query_scalar(leased).fetch_one(pool).await.unwrap();
    let alive = polar_jobs::queue::fleet::workers_alive(pool).await.unwrap();
    assert_eq!(
        (leased, alive),
        (1, 0),
        "the lease alone would say that it lives"
    );
}

#[tokio::test]
async fn a_discarded_job_is_warned_of_until_somebody_retries_or_acknowledges_it() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let (pool, url) = (&database.pool, &database.url);
    let warned = || line(&with_database(url, &["doctor"]), "discarded").to_owned();
    let gauge = async || polar_jobs::queue::fleet::discarded(pool).await.unwrap();
    let enqueue = "SELECT polar_jobs.enqueue('sync_customer')";
    let id: i64 = sqlx::query_scalar(enqueue).fetch_one(pool).await.unwrap();
    let id = id.to_string();
    let act = |action: &str| {
        let said = with_database(url, &["jobs", action, &id]);
        (said.code, said.out)
    };
    assert_eq!(act("acknowledge").0, Some(1), "it is not discarded");
    assert_eq!(act("discard").0, Some(0));
    execute(
        pool,
        "UPDATE polar_jobs.finished_jobs SET finished_at = finished_at - interval '30 days'",
    )
    .await;
    assert!(warned().starts_with("warning"), "however long ago");
    assert!(warned().contains("1 discarded job neither"), "{}", warned());
    assert_eq!(gauge().await, 1);

    let (code, out) = act("acknowledge");
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("acknowledged"), "{out}");
    assert!(warned().starts_with("ok"), "{}", warned());
    assert_eq!(gauge().await, 0);
    let shown = with_database(url, &["jobs", "show", &id]);
    assert!(shown.out.contains("acknowledged at "), "{}", shown.out);

    // Run again and discarded again, it is a new failure.
    assert_eq!(act("retry").0, Some(0));
    assert_eq!(act("discard").0, Some(0));
    assert!(warned().starts_with("warning"));
    let asked = with_database(url, &["jobs", "acknowledge", "--kind", "sync_customer"]);
    assert_eq!(asked.code, Some(2));
    assert!(asked.err.contains("would touch 1 job;"), "{}", asked.err);
    let all = &["jobs", "acknowledge", "--kind", "sync_customer", "--yes"];
    assert_eq!(with_database(url, all).code, Some(0));
    assert!(warned().starts_with("ok"));
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_show_the_slots_of_all_living_workers() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let url = database.url.as_str();
    let slots = async |queue: &str| {
        let list = ["queues", "list", "--format", "json"];
        let said = run_beside(&[("DATABASE_URL", url)], &list).await;
        let rows: Vec<Value> = serde_json::from_str(&said.out).unwrap();
        let row = rows.iter().find(|row| row["name"] == queue).unwrap();
        (
            row["workers"].as_i64().unwrap(),
            row["slots"].as_i64().unwrap(),
        )
    };
    assert_eq!(slots("default").await, (0, 0));
    let settings = [("DATABASE_URL", url), ("WORKER_SLOTS", "7")];
    let mut workers = [
        start(&settings, &["worker"]),
        start(
            &settings,
            &["worker", "--queue", "default=3", "--queue", "mail=100"],
        ),
    ];
    until(async || slots("default").await == (2, 10)).await;
    assert_eq!(
        slots("mail").await,
        (2, 14),
        "no queue runs more than the process"
    );
    assert_eq!(slots("bulk").await, (1, 7));
    for worker in &mut workers {
        signal(worker, "TERM");
        assert_eq!(ended(worker), Some(Some(0)));
    }
    assert_eq!(slots("default").await, (0, 0));
}

#[tokio::test]
async fn lists_name_the_organization() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let (pool, url) = (&database.pool, &database.url);
    add_organization(pool, ACME, "Acme").await;
    execute(
        pool,
        format!(
            "SELECT polar_jobs.record_change('organization.updated', '{{\"id\": \"{ACME}\", \"name\": \"A\"}}');
             SELECT polar_jobs.enqueue('sync_customer', '{{\"organization_id\": \"{GLOBEX}\"}}');
             SELECT polar_jobs.enqueue('sync_customer', '{{\"organization_id\": 7}}', ordering_key => 'organization/none')"
        ),
    )
    .await;
    let said = with_database(url, &["jobs", "list", "--format", "json"]);
    let rows: Vec<Value> = serde_json::from_str(&said.out).unwrap();
    let named: Vec<(&Value, &Value)> = rows
        .iter()
        .map(|row| (&row["organization_id"], &row["organization"]))
        .collect();
    assert_eq!(
        named,
        [
            (&Value::Null, &Value::Null),
            (&GLOBEX.into(), &Value::Null),
            (&ACME.into(), &"Acme".into())
        ]
    );
    let table = with_database(url, &["jobs", "list"]).out;
    assert!(table.contains("Acme") && table.contains(GLOBEX), "{table}");
    let events = with_database(url, &["events", "list"]).out;
    assert!(events.contains("Acme"), "{events}");
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_polar_refuses_the_token_for_is_late_since_it_was_due_first() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let (pool, url) = (&database.pool, &database.url);
    let polar = LocalPolar::start(Options::default()).await;
    add_organization(pool, ACME, "Acme").await;
    execute(
        pool,
        format!(
            "SELECT polar_jobs.enqueue('sync_customer', '{{\"organization_id\": \"{ACME}\"}}')"
        ),
    )
    .await;
    let drain = async || {
        let settings = [
            ("DATABASE_URL", url.clone()),
            ("POLAR_API_URL", polar.url()),
            ("POLAR_ACCESS_TOKEN", "polar_oat_revoked_token".to_owned()),
            ("POLAR_ORGANIZATION_ID", polar.organization_id().to_string()),
        ];
        let drain = ["worker", "--drain", "--queue", "default=1"];
        assert_eq!(run_beside(&settings, &drain).await.code, Some(0));
    };
    let oldest = async || {
        let backlogs = polar_jobs::queue::fleet::backlogs(pool).await.unwrap();
        let default = backlogs.iter().find(|one| one.queue == "default").unwrap();
        default.oldest_due
    };
    execute(
        pool,
        "UPDATE polar_jobs.live_jobs SET run_at = now() - interval '1 hour' WHERE kind = 'sync_customer'",
    )
    .await;
    drain().await;
    let ahead = "SELECT count(*) FROM polar_jobs.jobs WHERE kind = 'sync_customer' AND state = 'available' AND attempt > 0 AND run_at > now()";
    let ahead: i64 = sqlx::query_scalar(ahead).fetch_one(pool).await.unwrap();
    // A starting worker asks for the organization once more by itself.
    assert!(ahead > 0, "it waits for the token");
    assert!(oldest().await >= 3600.0, "{}", oldest().await);

    // A person who puts it off says that it is not due.
    execute(
        pool,
        "UPDATE polar_jobs.jobs SET run_at = now() + interval '1 day' WHERE kind = 'sync_customer'",
    )
    .await;
    assert!(oldest().await < 3600.0, "{}", oldest().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_fails_with_a_follow_up_of_its_job_and_is_applied_again_with_its_retry() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let (pool, url) = (&database.pool, &database.url);
    let data = format!(
        r#"{{"id": "{ACME}", "name": "Acme", "slug": "acme", "owner": {{"id": "{GLOBEX}", "email": "ada@example.com"}}}}"#
    );
    execute(
        pool,
        format!("SELECT polar_jobs.record_change('organization.created', '{data}')"),
    )
    .await;
    // Polar cannot be asked: the change is applied here, and what follows from it waits.
    let settings = [
        ("DATABASE_URL", url.as_str()),
        ("POLAR_API_URL", "http://127.0.0.1:1"),
        ("POLAR_ACCESS_TOKEN", "polar_oat_token"),
        ("POLAR_ORGANIZATION_ID", GLOBEX),
    ];
    let drain = ["worker", "--drain", "--queue", "default=1"];
    assert_eq!(run(&settings, &drain).code, Some(0));
    let outcome = async || -> Option<String> {
        let outcome = "SELECT outcome FROM polar_jobs.external_events";
        sqlx::query_scalar(outcome).fetch_one(pool).await.unwrap()
    };
    assert_eq!(outcome().await.as_deref(), Some("applied"));
    let follow_up =
        "SELECT id FROM polar_jobs.jobs WHERE kind = 'sync_customer' AND state = 'available'";
    let id: i64 = sqlx::query_scalar(follow_up).fetch_one(pool).await.unwrap();
    let id = id.to_string();
    assert_eq!(with_database(url, &["jobs", "discard", &id]).code, Some(0));
    assert_eq!(outcome().await.as_deref(), Some("failed"));
    assert_eq!(with_database(url, &["jobs", "retry", &id]).code, Some(0));
    assert_eq!(outcome().await.as_deref(), Some("applied"));
}

#[tokio::test]
async fn resync_enqueues_everything_of_an_organization_and_says_who_asked() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let (pool, url) = (&database.pool, &database.url);
    for (id, name) in [(ACME, "Acme"), (GLOBEX, "Globex")] {
        add_organization(pool, id, name).await;
    }
    execute(
        pool,
        format!(
            "INSERT INTO polar_jobs.people (user_id, email) VALUES ('{ACME}', 'ada@example.com');
             INSERT INTO polar_jobs.memberships (organization_id, user_id, role, event_id, synced_event)
             VALUES ('{ACME}', '{ACME}', 'owner', 0, 0)"
        ),
    )
    .await;
    let kinds = async |organization: &str| -> Vec<String> {
        let kinds = "SELECT kind FROM polar_jobs.jobs WHERE payload ->> 'organization_id' = $1
                         OR payload ->> 'external_customer_id' = $1 ORDER BY kind";
        let kinds = sqlx::query_scalar(kinds).bind(organization.to_owned());
        kinds.fetch_all(pool).await.unwrap()
    };
    let one = ["--actor", "ada", "resync", "--organization", ACME];
    let said = with_database(url, &one);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let everything = [
        "apply_benefits",
        "sync_customer",
        "sync_member",
        "sync_subscription",
        "sync_support_desk",
    ];
    assert_eq!(kinds(ACME).await, everything);
    assert!(kinds(GLOBEX).await.is_empty());
    let who: (String, Uuid) = sqlx::query_as(
        "SELECT actor, organization_id FROM polar_jobs.operator_actions WHERE action = 'resync'",
    )
    .fetch_one(pool)
    .await
    .unwrap();
    assert_eq!((who.0.as_str(), who.1.to_string().as_str()), ("ada", ACME));

    assert_eq!(with_database(url, &["resync"]).code, Some(2));
    let asked = with_database(url, &["resync", "--all"]);
    assert_eq!(asked.code, Some(2));
    assert!(
        asked.err.contains("2 organizations; add --yes"),
        "{}",
        asked.err
    );
    assert_eq!(
        with_database(url, &["resync", "--all", "--yes"]).code,
        Some(0)
    );
    assert_eq!(
        kinds(ACME).await,
        everything,
        "what waits already is not doubled"
    );
    assert_eq!(kinds(GLOBEX).await.len(), 4, "nobody belongs to it");
    let nobody = Uuid::new_v4().to_string();
    let unknown = with_database(url, &["resync", "--organization", &nobody]);
    assert_eq!(unknown.code, Some(1));
    assert!(
        unknown.err.contains("there is no organization"),
        "{}",
        unknown.err
    );
}
