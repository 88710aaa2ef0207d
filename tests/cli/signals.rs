//! Long-running commands stop cleanly on both signals, and not at all otherwise.

use private_postgres::testing;
use serde_json::Value;

use super::support::{ended, get, line_with, run, signal, start, until, with_database};

async fn workers(pool: &sqlx::PgPool) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM polar_jobs.workers")
        .fetch_one(pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_worker_stops_on_either_signal_and_takes_its_row_away() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    for name in ["TERM", "INT"] {
        let mut worker = start(&[("DATABASE_URL", &database.url)], &["worker"]);
        until(async || workers(&database.pool).await == 1).await;
        signal(&worker, name);
        assert_eq!(ended(&mut worker), Some(Some(0)), "{name}");
        assert_eq!(workers(&database.pool).await, 0);
    }
}

#[tokio::test]
async fn a_draining_worker_exits_when_nothing_is_runnable() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    assert_eq!(with_database(&database.url, &["migrate"]).code, Some(0));
    assert_eq!(
        with_database(&database.url, &["schedules", "run", "prune"]).code,
        Some(0)
    );
    let said = with_database(
        &database.url,
        &[
            "worker",
            "--drain",
            "--queue",
            "default=2",
            "--queue",
            "bulk=2",
        ],
    );
    assert_eq!(said.code, Some(0), "{}", said.err);
    let done: i64 =
        sqlx::query_scalar("SELECT count(*) FROM polar_jobs.jobs WHERE state = 'completed'")
            .fetch_one(&database.pool)
            .await
            .unwrap();
    assert_eq!(done, 1);
}

#[tokio::test]
async fn what_is_not_configured_is_said_at_the_start() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let worker = with_database(&database.url, &["worker", "--drain"]);
    assert!(worker.err.contains("billing is off"), "{}", worker.err);
    let settings = [("DATABASE_URL", database.url.as_str()), ("PORT", "0")];
    let mut ingress = start(&settings, &["ingress"]);
    line_with(ingress.stderr.take().unwrap(), "POLAR_WEBHOOK_SECRET");
    signal(&ingress, "TERM");
    assert_eq!(ended(&mut ingress), Some(Some(0)));
}

#[tokio::test]
async fn a_worker_refuses_a_queue_that_is_not_there() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let said = with_database(&database.url, &["worker", "--queue", "post=1"]);
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("there is no queue post"), "{}", said.err);
}

#[tokio::test]
async fn a_worker_refuses_a_queue_that_is_named_twice() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let twice = [
        "worker",
        "--drain",
        "--queue",
        "default=2",
        "--queue",
        "mail",
        "--queue",
        "default=3",
    ];
    let said = with_database(&database.url, &twice);
    assert_eq!(said.code, Some(2), "{}", said.err);
    assert!(
        said.err.contains("the queue default is named twice"),
        "{}",
        said.err
    );
}

/// The kernel does nothing about a signal that process 1 of a container does not take.
#[tokio::test]
async fn a_command_that_only_waits_takes_the_signals_itself() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("changes.ndjson");
    let change = r#"{"type": "organization.created", "data": {"id": "1dbfc517-0bbf-4301-9ba8-555ca42b9737", "name": "Acme", "slug": "acme", "#;
    let owner = r#""owner": {"id": "7d1e3f52-51c5-4a57-8a2f-93f1d1c9a001", "email": "ada@acme.example", "name": "Ada"}}}"#;
    std::fs::write(&file, format!("{change}{owner}\n")).unwrap();
    let waits = ["backfill", "--from", file.to_str().unwrap()];
    for (name, code) in [("TERM", 143), ("INT", 130)] {
        let database = testing::database(polar_jobs::migrate::migrator).await;
        let (pool, url) = (&database.pool, &database.url);
        // One that lives and never works: the command waits for it.
        let idle = "INSERT INTO polar_jobs.workers (host, pid, version, leased_until) VALUES ('h', 1, '0', 'infinity')";
        sqlx::query(idle).execute(pool).await.unwrap();
        let mut command = start(&[("DATABASE_URL", url)], &waits);
        let stored = "SELECT EXISTS (SELECT FROM polar_jobs.live_jobs)";
        until(async || sqlx::query_scalar(stored).fetch_one(pool).await.unwrap()).await;
        signal(&command, name);
        assert_eq!(ended(&mut command), Some(Some(code)), "{name}");
    }
}

#[tokio::test]
async fn the_ingress_and_the_simulator_stop_on_a_signal() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let ingress = [("DATABASE_URL", database.url.as_str())];
    for (settings, arguments) in [
        (&ingress[..], &["ingress", "--port", "0"][..]),
        (&[], &["simulator", "--port", "0"]),
    ] {
        for name in ["TERM", "INT"] {
            let mut child = start(settings, arguments);
            // Both write a line once they listen.
            if arguments[0] == "ingress" {
                line_with(child.stderr.take().unwrap(), "");
            } else {
                line_with(child.stdout.take().unwrap(), "");
            }
            signal(&child, name);
            assert_eq!(ended(&mut child), Some(Some(0)), "{arguments:?} {name}");
        }
    }
}

#[tokio::test]
async fn a_taken_port_is_a_failure_that_names_it() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let said = run(
        &[("DATABASE_URL", &database.url), ("PORT", &port)],
        &["ingress"],
    );
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains(&port), "{}", said.err);
}

#[tokio::test]
async fn a_worker_serves_health_and_metrics_where_it_is_told() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let settings = [
        ("DATABASE_URL", database.url.as_str()),
        ("METRICS_BIND", "127.0.0.1:0"),
    ];
    let mut worker = start(&settings, &["worker"]);
    let page = line_with(
        worker.stderr.take().unwrap(),
        "health and metrics are served",
    );
    let logged: Value = serde_json::from_str(&page).expect("a log that is no terminal is JSON");
    let address = logged["address"].as_str().unwrap();
    for path in ["/health", "/ready", "/metrics"] {
        let answer = get(address, path);
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    let pool = sqlx::PgPool::connect(&database.url).await.unwrap();
    sqlx::query("SELECT polar_jobs.enqueue('prune', '{}')")
        .execute(&pool)
        .await
        .unwrap();
    let counted = r#"polar_jobs_attempts_total{kind="prune",result="applied"} 1"#;
    let delay = r#"polar_jobs_oldest_due_seconds{queue="default"} 0"#;
    until(async || {
        let page = get(address, "/metrics");
        page.contains(counted) && page.contains(delay)
    })
    .await;
    signal(&worker, "TERM");
    assert_eq!(ended(&mut worker), Some(Some(0)));
}
