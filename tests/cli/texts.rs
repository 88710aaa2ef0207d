//! What went wrong, with what, and what to do: in one line, in words that help.

use std::time::{Duration, Instant};

use private_postgres::testing;
use simulator::Options;

use crate::free_port::free_port;
use crate::local_polar::LocalPolar;

use super::support::{
    Said, ended, get, run, run_beside, signal, start, try_get, until, with_database,
};
use super::watch::{execute, line, role};

/// No line of Postgres' own source, and one line of ours.
fn is_plain(said: &Said) {
    assert_eq!(said.err.lines().count(), 1, "{}", said.err);
    for text in [&said.err, &said.out] {
        assert!(!text.contains(" at line "), "{text}");
        assert!(!text.contains("error returned from database"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_grant_is_said_with_what_to_do() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let (_, url) = role(&database.pool, &database.url, "nobody").await;
    for arguments in [&["jobs", "list"][..], &["migrate"], &["worker"]] {
        let said = with_database(&url, arguments);
        assert_eq!(said.code, Some(1), "{arguments:?}");
        is_plain(&said);
        assert!(
            said.err.contains("permission denied for") && said.err.contains("owner of the schema"),
            "{}",
            said.err
        );
    }
    let doctor = with_database(&url, &["doctor"]);
    assert_eq!(doctor.code, Some(1));
    let grants = line(&doctor, "grants");
    assert!(
        grants.starts_with("error")
            && grants.contains("permission denied for schema polar_jobs")
            && !grants.contains(" at line "),
        "{grants}"
    );

    let port = free_port();
    let settings = [
        ("DATABASE_URL", url.as_str()),
        ("PORT", &port.to_string()),
        ("APP_TOKEN", "an-application-token"),
    ];
    let mut ingress = start(&settings, &["ingress"]);
    let address = format!("127.0.0.1:{port}");
    until(async || try_get(&address, "/health").is_some()).await;
    let ready = get(&address, "/ready");
    assert!(
        ready.contains("503") && ready.contains("may not read the schema polar_jobs"),
        "{ready}"
    );
    signal(&ingress, "TERM");
    assert_eq!(ended(&mut ingress), Some(Some(0)));
}

#[tokio::test]
async fn migrate_says_which_right_a_role_lacks_in_an_empty_database() {
    let database = testing::empty_database(polar_jobs::migrate::migrator).await;
    let (_, url) = role(&database.pool, &database.url, "nobody").await;
    let said = with_database(&url, &["migrate"]);
    assert_eq!(said.code, Some(1));
    is_plain(&said);
    assert!(
        said.err.contains("GRANT CREATE ON DATABASE"),
        "{}",
        said.err
    );
}

#[tokio::test]
async fn migrate_tells_a_new_schema_from_one_that_was_there() {
    let database = testing::empty_database(polar_jobs::migrate::migrator).await;
    let first = with_database(&database.url, &["migrate"]);
    assert!(first.out.contains("was created: "), "{}", first.out);
    let second = with_database(&database.url, &["migrate"]);
    assert!(second.out.contains("nothing was missing"), "{}", second.out);
    execute(
        &database.pool,
        "INSERT INTO polar_jobs._migrations (version, description, success, checksum, execution_time)
         VALUES (99999, 'of tomorrow', true, '', 0)",
    )
    .await;
    let newer = with_database(&database.url, &["migrate"]);
    assert_eq!(newer.code, Some(1));
    is_plain(&newer);
    assert!(
        newer.err.contains("install the newer release"),
        "{}",
        newer.err
    );
}

#[test]
fn a_refused_connection_is_said_at_once() {
    // Port 1 is nobody's.
    let nowhere = "postgres://postgres@127.0.0.1:1/app";
    for arguments in [&["jobs", "list"][..], &["migrate"], &["worker"]] {
        let begun = Instant::now();
        let said = with_database(nowhere, arguments);
        assert_eq!(said.code, Some(1));
        assert!(said.err.to_lowercase().contains("refused"), "{}", said.err);
        assert!(begun.elapsed() < Duration::from_secs(9), "{arguments:?}");
    }
}

#[test]
fn settings_that_look_right_and_are_not_stop_the_start() {
    for (variable, value, words) in [
        ("POLAR_API_URL", "https://api.polar.sh/v1", "without /v1"),
        ("POLAR_API_URL", "https://api.polar.sh/v1/", "without /v1"),
        ("RUST_LOG", "debgu", "did you mean debug?"),
        ("RUST_LOG", "warn,inf", "did you mean info?"),
        ("RUST_LOG", "polar_jobs=loud", "cannot be read"),
    ] {
        let said = run(&[(variable, value)], &["worker"]);
        assert_eq!(said.code, Some(2), "{value}");
        assert_eq!(said.err.lines().count(), 1, "{}", said.err);
        assert!(
            said.err.starts_with(&format!("polar-jobs: {variable} ")) && said.err.contains(words),
            "{}",
            said.err
        );
    }
    let said = run(&[], &["simulator", "--webhook-url", "localhost:8080/hook"]);
    assert_eq!(said.code, Some(2));
    assert!(
        said.err.contains("--webhook-url") && said.err.contains("http:// or https://"),
        "{}",
        said.err
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_calls_polar_out_of_the_fleets_budget_and_changes_nothing_for_the_fleet() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let polar = LocalPolar::start(Options::default()).await;
    let doctor = async |token: &str, limit: &str| {
        let settings = [
            ("DATABASE_URL", database.url.clone()),
            ("POLAR_API_URL", polar.url()),
            ("POLAR_ACCESS_TOKEN", token.to_owned()),
            ("POLAR_ORGANIZATION_ID", polar.organization_id().to_string()),
            ("POLAR_RATE_LIMIT", limit.to_owned()),
        ];
        run_beside(&settings, &["doctor"]).await
    };
    let left = "SELECT calls_left FROM polar_jobs.rate_limiter WHERE counted_at > now() - interval '1 hour'";
    let left = async || -> Option<f64> {
        let left = sqlx::query_scalar(left).fetch_optional(&database.pool);
        left.await.unwrap()
    };
    assert_eq!(left().await, None, "nobody has called");
    let good = doctor(polar.access_token(), "400").await;
    assert!(line(&good, "scopes").starts_with("ok"), "{}", good.out);
    assert!(left().await.unwrap() < 39.0, "its calls are counted");

    let wrong = doctor("polar_oat_unknown_token", "400").await;
    assert!(line(&wrong, "polar").starts_with("error"), "{}", wrong.out);
    let refused: bool = sqlx::query_scalar(
        "SELECT bool_or(unauthorized_since IS NOT NULL) FROM polar_jobs.rate_limiter",
    )
    .fetch_one(&database.pool)
    .await
    .unwrap();
    assert!(
        !refused,
        "a wrong token in a person's shell stops no worker"
    );

    execute(
        &database.pool,
        "UPDATE polar_jobs.rate_limiter SET calls_left = 0, counted_at = clock_timestamp()",
    )
    .await;
    let before = polar.requests().len();
    let spent = doctor(polar.access_token(), "1").await;
    let said = line(&spent, "polar");
    assert!(
        said.starts_with("warning") && said.contains("the call budget is used up; next try in"),
        "{said}"
    );

    // Full again, but whoever takes from it waits for a lock: the database is slow, not the budget small.
    execute(
        &database.pool,
        "UPDATE polar_jobs.rate_limiter SET calls_left = 40, counted_at = clock_timestamp()",
    )
    .await;
    let mut slow = database.pool.begin().await.unwrap();
    let lock = "SELECT FROM polar_jobs.rate_limiter FOR UPDATE";
    sqlx::query(lock).execute(&mut *slow).await.unwrap();
    let late = doctor(polar.access_token(), "400").await;
    let said = line(&late, "polar");
    assert!(
        said.starts_with("warning")
            && said.contains("the database failed or answered late")
            && said.contains("-> see whether the database is overloaded")
            && !said.contains("used up")
            && !said.contains("POLAR_RATE_LIMIT"),
        "{said}"
    );
    slow.rollback().await.unwrap();
    assert_eq!(polar.requests().len(), before);
}
