//! `doctor`: each line ok, warning or error, with the fix.

use private_postgres::testing;
use serde_json::Value;
use simulator::Options;

use crate::local_polar::LocalPolar;

use super::support::{Said, run, run_beside, with_database};

fn line<'s>(said: &'s Said, about: &str) -> &'s str {
    let found = said
        .out
        .lines()
        .find(|line| line.split_whitespace().nth(1) == Some(about));
    found.unwrap_or_else(|| panic!("nothing about {about} in:\n{}", said.out))
}

async fn polar() -> LocalPolar {
    LocalPolar::start(Options::default()).await
}

async fn doctor(settings: Vec<(String, String)>) -> Said {
    run_beside(&settings, &["doctor"]).await
}

fn settings(database: &str, polar: &LocalPolar, token: &str) -> Vec<(String, String)> {
    [
        ("DATABASE_URL", database.to_owned()),
        ("POLAR_API_URL", polar.url()),
        ("POLAR_ACCESS_TOKEN", token.to_owned()),
        ("POLAR_ORGANIZATION_ID", polar.organization_id().to_string()),
        ("POLAR_WEBHOOK_SECRET", polar.webhook_secret().to_owned()),
        ("APP_TOKEN", "an-application-token".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

#[tokio::test]
async fn what_is_not_configured_is_a_warning_with_its_fix() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let said = with_database(&database.url, &["doctor"]);
    assert_eq!(said.code, Some(3), "{}", said.out);
    assert!(
        line(&said, "billing").starts_with("warning")
            && line(&said, "billing").contains("POLAR_ACCESS_TOKEN")
    );
    assert!(
        line(&said, "workers").starts_with("warning")
            && line(&said, "workers").contains("polar-jobs worker")
    );
    for about in [
        "database",
        "postgres",
        "schema",
        "clock",
        "connections",
        "queues",
        "limiter",
        "schedules",
    ] {
        assert!(line(&said, about).starts_with("ok"), "{}", said.out);
    }
}

#[tokio::test]
async fn an_empty_database_is_an_error_whose_fix_is_migrate() {
    let database = testing::empty_database(polar_jobs::migrate::migrator).await;
    let said = with_database(&database.url, &["doctor"]);
    assert_eq!(said.code, Some(1));
    assert!(
        line(&said, "schema").starts_with("error")
            && line(&said, "schema").contains("polar-jobs migrate")
    );
}

#[test]
fn without_a_database_or_with_wrong_settings_it_still_answers_in_its_own_form() {
    let none = run(&[], &["doctor"]);
    assert_eq!(none.code, Some(1));
    assert!(line(&none, "database").starts_with("error"));
    let nowhere = [("DATABASE_URL", "postgres://postgres@127.0.0.1:1/app")];
    let unreachable = run(&nowhere, &["doctor"]);
    assert_eq!(
        line(&unreachable, "database").matches("refused").count(),
        1,
        "{}",
        unreachable.out
    );
    let wrong = run(&[("PORT", "http")], &["doctor"]);
    assert_eq!(wrong.code, Some(1));
    assert!(line(&wrong, "settings").contains("PORT"));
    let filter = [("RUST_LOG", "polar_jobs=loud")];
    for command in ["ingress", "worker", "migrate"] {
        let refused = run(&filter, &[command]);
        assert_eq!(refused.code, Some(2));
        assert!(
            refused.err.starts_with("polar-jobs: RUST_LOG "),
            "{}",
            refused.err
        );
        assert_eq!(refused.err.lines().count(), 1);
    }
}

#[tokio::test]
async fn an_application_that_is_not_told_although_it_should_be_is_a_warning() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let settings = [
        ("DATABASE_URL", database.url.as_str()),
        ("APP_WEBHOOK_URL", "https://app.example.com/hooks"),
        (
            "APP_WEBHOOK_SECRET",
            "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
        ),
    ];
    let said = run(&settings, &["doctor"]);
    assert!(
        line(&said, "application").starts_with("warning"),
        "{}",
        said.out
    );
    sqlx::query("UPDATE polar_jobs.app_webhook SET is_set = true")
        .execute(&database.pool)
        .await
        .unwrap();
    let said = run(&settings, &["doctor"]);
    assert!(line(&said, "application").starts_with("ok"), "{}", said.out);
}

#[tokio::test]
async fn programs_read_the_same_findings_as_json() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let said = with_database(&database.url, &["doctor", "--format", "json"]);
    assert_eq!(said.code, Some(3), "{}", said.out);
    let findings: Vec<Value> = serde_json::from_str(&said.out).unwrap();
    let lines = with_database(&database.url, &["doctor"]).out;
    assert_eq!(findings.len(), lines.lines().count());
    let workers = findings
        .iter()
        .find(|one| one["about"] == "workers")
        .unwrap();
    assert_eq!(workers["level"], "warning");
    assert!(
        workers["what"].is_string()
            && workers["fix"]
                .as_str()
                .unwrap()
                .contains("polar-jobs worker")
    );
    let wrong = run(&[("PORT", "http")], &["doctor", "--format", "json"]);
    let findings: Vec<Value> = serde_json::from_str(&wrong.out).unwrap();
    assert_eq!(
        (findings.len(), &findings[0]["level"]),
        (1, &Value::from("error"))
    );
}

#[tokio::test]
async fn a_schedule_that_should_have_ticked_is_an_error_unless_it_is_paused() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    assert_eq!(with_database(&database.url, &["migrate"]).code, Some(0));
    let said = with_database(&database.url, &["doctor"]);
    assert!(line(&said, "schedules").starts_with("ok"), "{}", said.out);
    sqlx::query("UPDATE polar_jobs.schedules SET next_tick = now() - interval '7 minutes' WHERE name = 'prune'")
        .execute(&database.pool)
        .await
        .unwrap();
    let said = with_database(&database.url, &["doctor"]);
    assert_eq!(said.code, Some(1), "{}", said.out);
    let late = line(&said, "schedule");
    assert!(
        late.starts_with("error") && late.contains("prune should have ticked 7 min ago"),
        "{late}"
    );
    sqlx::query("UPDATE polar_jobs.schedules SET paused_at = now() WHERE name = 'prune'")
        .execute(&database.pool)
        .await
        .unwrap();
    let said = with_database(&database.url, &["doctor"]);
    assert!(line(&said, "schedules").starts_with("ok"), "{}", said.out);
}

#[tokio::test]
async fn more_processes_than_the_server_has_connections_for_are_an_error() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    sqlx::query(
        "INSERT INTO polar_jobs.workers (host, pid, version, leased_until)
         SELECT 'h', n, '0', 'infinity' FROM generate_series(1, 10000) n",
    )
    .execute(&database.pool)
    .await
    .unwrap();
    let said = with_database(&database.url, &["doctor"]);
    assert_eq!(said.code, Some(1), "{}", said.out);
    let found = line(&said, "connections");
    assert!(
        found.starts_with("error") && found.contains("10001 of our processes"),
        "{found}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_token_and_an_endpoint_are_fine() {
    let (database, polar) = (
        testing::database(polar_jobs::migrate::migrator).await,
        polar().await,
    );
    polar.set_webhook_url(Some(
        "http://127.0.0.1:1/integrations/polar/webhook".to_owned(),
    ));
    let warned = doctor(settings(&database.url, &polar, polar.access_token())).await;
    assert_eq!(warned.code, Some(3), "no worker lives: {}", warned.out);
    sqlx::query("INSERT INTO polar_jobs.workers (host, pid, version, leased_until) VALUES ('h', 1, $1, 'infinity')")
        .bind(env!("CARGO_PKG_VERSION"))
        .execute(&database.pool)
        .await
        .unwrap();
    let said = doctor(settings(&database.url, &polar, polar.access_token())).await;
    assert_eq!(said.code, Some(3), "no mail is sent: {}", said.out);
    let not_ok = said.out.lines().filter(|line| !line.starts_with("ok"));
    assert_eq!(not_ok.count(), 1, "{}", said.out);
    for about in ["billing", "polar", "scopes", "api-scopes", "endpoint"] {
        assert!(line(&said, about).starts_with("ok"), "{}", said.out);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scopes_that_only_the_organizations_api_needs_are_errors_once_people_call_it() {
    let (database, polar) = (
        testing::database(polar_jobs::migrate::migrator).await,
        polar().await,
    );
    let of_jobs = [
        "customers:read",
        "customers:write",
        "members:read",
        "members:write",
        "subscriptions:read",
        "benefits:read",
        "events:write",
        "webhooks:read",
        "webhooks:write",
    ];
    polar.add_token("polar_oat_of_jobs", &of_jobs);
    let ask = async |more: &[(&str, &str)]| {
        let mut settings = settings(&database.url, &polar, "polar_oat_of_jobs");
        let more = more
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        settings.extend(more);
        let said = doctor(settings).await;
        ["scopes", "api-scopes"].map(|about| line(&said, about).to_owned())
    };
    let before = polar.requests().len();
    let [of_jobs, perhaps] = ask(&[]).await;
    assert!(of_jobs.starts_with("ok"), "{of_jobs}");
    let lacks = "lacks products:read, subscriptions:write, checkouts:write, customer_sessions:write, orders:read,";
    assert!(
        perhaps.starts_with("warning") && perhaps.contains(lacks),
        "{perhaps}"
    );
    let product = uuid::Uuid::new_v4().to_string();
    let [of_jobs, used] = ask(&[
        (
            "APP_SESSION_SECRET",
            "a-key-of-the-application-of-32-bytes-or-more",
        ),
        ("POLAR_SCALE_PRODUCT_ID", &product),
    ])
    .await;
    assert!(
        used.starts_with("error") && used.contains("orders:read,"),
        "{used}"
    );
    assert!(
        of_jobs.starts_with("error") && of_jobs.contains("lacks discounts:write;"),
        "{of_jobs}"
    );
    let done = polar.requests().split_off(before);
    for request in done.iter().filter(|request| request.method != "GET") {
        let refused = request.status.is_some_and(|status| status >= 400);
        assert!(
            refused || request.path == "/v1/events/ingest",
            "{request:?} changed something"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_startup_program_needs_its_scope_without_the_organizations_api_as_well() {
    let (database, polar) = (
        testing::database(polar_jobs::migrate::migrator).await,
        polar().await,
    );
    polar.withdraw_scopes(&["discounts:write"]);
    let of_jobs = async |more: Option<(&str, String)>| {
        let mut settings = settings(&database.url, &polar, polar.access_token());
        settings.retain(|(name, _)| name != "APP_TOKEN");
        settings.extend(more.map(|(name, value)| (name.to_owned(), value)));
        line(&doctor(settings).await, "scopes").to_owned()
    };
    let unused = of_jobs(None).await;
    assert!(unused.starts_with("ok"), "{unused}");
    let product = uuid::Uuid::new_v4().to_string();
    let used = of_jobs(Some(("POLAR_SCALE_PRODUCT_ID", product))).await;
    assert!(
        used.starts_with("error") && used.contains("lacks discounts:write;"),
        "{used}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_and_a_missing_scope_and_a_disabled_endpoint_are_errors() {
    let (database, polar) = (
        testing::database(polar_jobs::migrate::migrator).await,
        polar().await,
    );
    let refused = doctor(settings(&database.url, &polar, "polar_oat_unknown_token")).await;
    assert_eq!(refused.code, Some(1));
    assert!(
        line(&refused, "polar").starts_with("error")
            && !refused.out.contains("polar_oat_unknown_token")
    );

    polar.add_token("polar_oat_poor_token", &["customers:read", "members:write"]);
    let poor = doctor(settings(&database.url, &polar, "polar_oat_poor_token")).await;
    assert_eq!(poor.code, Some(1));
    let lacks =
        "lacks customers:write, subscriptions:read, benefits:read, events:write, webhooks:write;";
    assert!(line(&poor, "scopes").contains(lacks), "{}", poor.out);
    assert!(
        line(&poor, "endpoint").starts_with("warning"),
        "{}",
        poor.out
    );

    polar.set_webhook_url(Some(
        "http://127.0.0.1:1/integrations/polar/webhook".to_owned(),
    ));
    polar.set_webhook_url(None);
    let disabled = doctor(settings(&database.url, &polar, polar.access_token())).await;
    assert_eq!(disabled.code, Some(1));
    assert!(
        line(&disabled, "endpoint").starts_with("error"),
        "{}",
        disabled.out
    );
}

#[tokio::test]
async fn a_paused_queue_a_given_up_job_and_a_refused_fleet_are_said() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let (pool, url) = (&database.pool, &database.url);
    let id: i64 = sqlx::query_scalar("SELECT polar_jobs.enqueue('sync_customer')")
        .fetch_one(pool)
        .await
        .unwrap();
    assert_eq!(
        with_database(url, &["jobs", "discard", &id.to_string()]).code,
        Some(0)
    );
    assert_eq!(
        with_database(url, &["queues", "pause", "mail"]).code,
        Some(0)
    );
    sqlx::query(
        "INSERT INTO polar_jobs.rate_limiter (name, calls_left, counted_at, unauthorized_since) VALUES ('polar', 0, now(), now())
         ON CONFLICT (name) DO UPDATE SET unauthorized_since = now()",
    )
    .execute(pool)
    .await
    .unwrap();
    let said = with_database(url, &["doctor"]);
    assert_eq!(said.code, Some(1));
    assert!(line(&said, "queue").contains("polar-jobs queues resume mail"));
    assert!(line(&said, "discarded").starts_with("warning"));
    assert!(line(&said, "token").starts_with("error"));
}

#[tokio::test]
async fn an_open_breaker_and_a_wait_that_polar_asked_for_are_said_while_they_last() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    for (column, in_seconds, about, level) in [
        ("breaker_probe_at", 60, "breaker", "error"),
        ("breaker_probe_at", -1, "limiter", "ok"),
        ("wait_until", 60, "limiter", "warning"),
        ("wait_until", -1, "limiter", "ok"),
    ] {
        let stored = format!(
            "UPDATE polar_jobs.rate_limiter
                SET {column} = clock_timestamp() + make_interval(secs => {in_seconds})"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(stored))
            .execute(&database.pool)
            .await
            .unwrap();
        let said = with_database(&database.url, &["doctor"]);
        assert!(line(&said, about).starts_with(level), "{}", said.out);
    }
}

#[tokio::test]
async fn a_prepared_transaction_that_keeps_usage_uncounted_is_named_with_its_fix() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    // The server of the tests takes no prepared transactions: a view that stands before its own shows one, and a
    // reading that looks as if its transaction had not begun yet is held back by it.
    sqlx::raw_sql(
        "CREATE SCHEMA shadow;
         CREATE VIEW shadow.pg_prepared_xacts AS
         SELECT '1'::xid AS transaction, 'shop-17'::text AS gid, 'shop'::text AS owner, now() - interval '17 minutes' AS prepared;
         INSERT INTO polar_jobs.usage (organization_id, quantity, written_by, written_at)
         VALUES ('1dbfc517-0bbf-4301-9ba8-555ca42b9737', 3, 1::bigint << 62, now() - interval '17 minutes')",
    )
    .execute(&database.pool)
    .await
    .unwrap();
    let url = format!("{}&options=-csearch_path%3Dshadow,pg_catalog", database.url);
    let old = with_database(&url, &["doctor"]);
    assert_eq!(old.code, Some(1), "{}", old.out);
    let said = line(&old, "usage");
    assert!(said.starts_with("error"), "{said}");
    assert!(
        said.contains("\"shop-17\" of role shop (prepared, open for 1020 s)"),
        "{said}"
    );
    assert!(said.contains("-> COMMIT PREPARED"), "{said}");
}
