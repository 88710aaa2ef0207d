//! `dev` and `bench`, with nothing configured and with a database.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use private_postgres::testing;
use serde_json::Value;

use sqlx::PgPool;

use super::support::{
    Running, command, ended, line_with, run, signal, start, until, with_database,
};

#[test]
fn the_demo_scenario_ends_as_it_should_twice_on_the_same_data() {
    let data = tempfile::tempdir().unwrap();
    let directory = data.path().to_str().unwrap();
    for _ in 0..2 {
        let said = run(
            &[("RUST_LOG", "warn")],
            &["dev", "--once", "--port", "0", "--data-dir", directory],
        );
        assert_eq!(said.code, Some(0), "{}\n{}", said.out, said.err);
        assert!(
            said.out.contains("outcomes are as they should be") && said.out.contains("psql '"),
            "{}",
            said.out
        );
    }
}

#[test]
fn after_a_crash_in_the_middle_the_next_scenario_needs_no_cleaning_up() {
    let data = tempfile::tempdir().unwrap();
    let directory = data.path().to_str().unwrap();
    for moment in [
        "Five organizations sign up",
        "Plans are bought",
        "One is upgraded",
    ] {
        let mut killed: Running = command(&[], &["dev", "--port", "0", "--data-dir", directory])
            .process_group(0)
            .spawn()
            .unwrap()
            .into();
        line_with(killed.stdout.take().unwrap(), moment);
        let group = format!("-{}", killed.id());
        let sent = Command::new("kill").args(["-KILL", "--", &group]).status();
        assert!(sent.unwrap().success());
        assert_eq!(ended(&mut killed), Some(None), "by a signal");
    }
    let said = run(
        &[("RUST_LOG", "warn")],
        &["dev", "--once", "--port", "0", "--data-dir", directory],
    );
    assert_eq!(said.code, Some(0), "{}\n{}", said.out, said.err);
    assert!(
        said.out.contains("outcomes are as they should be"),
        "{}",
        said.out
    );
}

#[test]
fn two_demo_scenarios_do_not_run_in_one_directory() {
    let data = tempfile::tempdir().unwrap();
    let arguments = [
        "dev",
        "--port",
        "0",
        "--data-dir",
        data.path().to_str().unwrap(),
    ];
    let mut first = start(&[], &arguments);
    line_with(first.stdout.take().unwrap(), "psql");
    let second = run(&[], &arguments);
    assert_eq!(second.code, Some(1));
    assert!(second.err.contains("--data-dir"), "{}", second.err);
    signal(&first, "TERM");
    assert_eq!(ended(&mut first), Some(Some(0)));
}

/// One test, because the databases of another one on the same server would be counted too.
#[tokio::test]
async fn a_measurement_is_one_line_of_json_and_leaves_no_database_behind_even_when_interrupted() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    for arguments in [
        &["bench", "enqueue", "--jobs", "200", "--clients", "2"][..],
        &[
            "bench",
            "enqueue",
            "--jobs",
            "200",
            "--clients",
            "2",
            "--bulk",
        ],
        &[
            "bench",
            "drain",
            "--jobs",
            "500",
            "--slots",
            "10",
            "--waiting",
            "100",
            "--finished",
            "100",
        ],
    ] {
        let said = with_database(&database.url, arguments);
        assert_eq!(said.code, Some(0), "{arguments:?}: {}", said.err);
        let result: Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!(result["bench"], arguments[1]);
        assert_eq!(scratch_databases(&database.pool).await, 0);
    }

    let settings = [("DATABASE_URL", database.url.as_str())];
    let child = start(
        &settings,
        &["bench", "latency", "--rate", "10", "--seconds", "600"],
    );
    until(async || scratch_databases(&database.pool).await > 0).await;
    signal(&child, "INT");
    let said = child.said();
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert_eq!(scratch_databases(&database.pool).await, 0);
}

async fn scratch_databases(pool: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM pg_database WHERE datname LIKE 'polar_jobs_bench_%'")
        .fetch_one(pool)
        .await
        .unwrap()
}
