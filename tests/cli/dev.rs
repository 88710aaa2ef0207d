//! `dev` and `bench`, with nothing configured and with a database.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use private_postgres::testing;
use serde_json::Value;

use sqlx::PgPool;
use tempfile::TempDir;

use super::support::{
    Running, Said, borrowed, command, ended, line_with, run, run_beside, signal, start, until,
    with_database,
};

/// A `dev` at a free port with its data here.
fn dev(data: &TempDir) -> [&str; 5] {
    let directory = data.path().to_str().unwrap();
    ["dev", "--port", "0", "--data-dir", directory]
}

/// The same that plays its scenario and ends.
fn dev_once(data: &TempDir) -> [&str; 6] {
    let [dev, port, free, data_dir, directory] = dev(data);
    [dev, "--once", port, free, data_dir, directory]
}

#[test]
fn the_demo_scenario_ends_as_it_should_twice_on_the_same_data() {
    let data = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let said = run(&[("RUST_LOG", "warn")], &dev_once(&data));
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
    for moment in [
        "Five organizations sign up",
        "Plans are bought",
        "One is upgraded",
    ] {
        let mut killed: Running = command(&[], &dev(&data))
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
    let said = run(&[("RUST_LOG", "warn")], &dev_once(&data));
    assert_eq!(said.code, Some(0), "{}\n{}", said.out, said.err);
    assert!(
        said.out.contains("outcomes are as they should be"),
        "{}",
        said.out
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_step_waits_for_what_an_earlier_run_left_for_later() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    // The mail about a purchase that waits for its order, and a change whose job waits before its next try.
    sqlx::raw_sql(
        "SELECT polar_jobs.enqueue('send_order_email', '{}', run_at => now() + interval '1 day');
         SELECT polar_jobs.record_change('organization.deleted', '{\"id\": \"1dbfc517-0bbf-4301-9ba8-555ca42b9737\"}');
         UPDATE polar_jobs.jobs SET run_at = now() + interval '1 day'",
    )
    .execute(&database.pool)
    .await
    .unwrap();
    let data = tempfile::tempdir().unwrap();
    let said = run(
        &[("RUST_LOG", "warn"), ("DATABASE_URL", &database.url)],
        &dev_once(&data),
    );
    assert_eq!(said.code, Some(0), "{}\n{}", said.out, said.err);
    let waiting: Vec<String> = sqlx::query_scalar(
        "SELECT kind FROM polar_jobs.jobs WHERE state = 'available' AND kind <> 'call_app' ORDER BY kind",
    )
    .fetch_all(&database.pool)
    .await
    .unwrap();
    assert_eq!(waiting, ["apply_change", "send_order_email"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_an_earlier_run_left_arrives_at_a_support_desk_that_forgot_its_organization()
{
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let data = tempfile::tempdir().unwrap();
    let settings = [("RUST_LOG", "warn"), ("DATABASE_URL", &database.url)];
    let first = run(&settings, &dev_once(&data));
    assert_eq!(first.code, Some(0), "{}\n{}", first.out, first.err);
    // Without a tier, whose end would bring the organization again.
    let left = "SELECT polar_jobs.record_change('user.updated',
                       jsonb_build_object('id', user_id, 'email', 'changed@umbrella.example'))
                  FROM polar_jobs.memberships m JOIN polar_jobs.organizations o ON o.id = m.organization_id
                 WHERE o.name = 'Umbrella' AND o.plain_tier_external_id IS NULL";
    sqlx::raw_sql(left).execute(&database.pool).await.unwrap();
    let next = run(&settings, &dev_once(&data));
    assert_eq!(next.code, Some(0), "{}\n{}", next.out, next.err);
    let at_the_support_desk = "SELECT count(*) FROM polar_jobs.support_desk_members s JOIN polar_jobs.people p USING (user_id)
         WHERE p.email = 'changed@umbrella.example' AND s.synced_event = p.changed_event";
    let arrived: i64 = sqlx::query_scalar(at_the_support_desk)
        .fetch_one(&database.pool)
        .await
        .unwrap();
    assert_eq!(arrived, 1);
}

const ROCKETS: &str = "1f0c7c1e-6a5b-4c0e-9d3a-0f6f2b1f7a11";

/// The settings that `dev` wrote, without those of another port.
fn written(data: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(data.join("dev.env")).unwrap();
    let settings = text.lines().filter_map(|line| line.split_once('='));
    let settings =
        settings.map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned()));
    settings.collect()
}

/// Runs a command with the settings that `dev` wrote.
async fn beside(data: &Path, arguments: &[&str]) -> Said {
    run_beside(&written(data), arguments).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_run_knows_the_organizations_of_the_run_before_and_workers_and_shells_go_on_with_it()
 {
    let data = tempfile::tempdir().unwrap();
    let arguments = dev(&data);
    let mut first = start(&[("RUST_LOG", "warn")], &arguments);
    line_with(first.stdout.take().unwrap(), "Everything stays open");
    let before = written(data.path());
    let change = format!(
        r#"SELECT polar_jobs.record_change('organization.created', '{{"id": "{ROCKETS}", "name": "Acme Rockets", "slug": "rockets",
            "owner": {{"id": "7d1e3f52-51c5-4a57-8a2f-93f1d1c9a001", "email": "ada@acme.example", "name": "Ada"}}}}')"#
    );
    let url = &before
        .iter()
        .find(|(name, _)| name == "DATABASE_URL")
        .unwrap()
        .1;
    let pool = PgPool::connect(url).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(change))
        .execute(&pool)
        .await
        .unwrap();
    pool.close().await;
    let in_step = ["organizations", "show", "rockets", "--format", "json"];
    let is_in_step = async || {
        let shown = beside(data.path(), &in_step).await;
        shown.out.contains(r#""in_step":true"#) && shown.out.contains("Acme Rockets")
    };
    until(is_in_step).await;
    // Nobody stops this one: it works on while its database is away, and beside the next run.
    let mut left_over = start(&borrowed(&before), &["worker"]);
    let two_alive = async || {
        let doctor = beside(data.path(), &["doctor"]).await;
        doctor.out.contains("2 alive")
    };
    until(two_alive).await;
    signal(&first, "TERM");
    assert_eq!(ended(&mut first), Some(Some(0)));

    let mut second = start(&[("RUST_LOG", "warn")], &arguments);
    let said = line_with(second.stdout.take().unwrap(), "come to it again");
    // Five of the scenario, of which one left, and the one that signed up.
    assert!(said.contains("5 organizations of runs before"), "{said}");
    let same = [
        "POLAR_API_URL",
        "PLAIN_API_URL",
        "APP_URL",
        "POLAR_ACCESS_TOKEN",
        "DATABASE_URL",
    ];
    let after = written(data.path());
    for name in same {
        let of = |all: &[(String, String)]| all.iter().find(|(found, _)| found == name).cloned();
        assert_eq!(of(&after), of(&before), "{name}");
    }
    until(async || {
        let state = beside(data.path(), &["simulator", "state"]).await;
        state.out.contains("Acme Rockets")
    })
    .await;
    let bought = [
        "simulator",
        "trigger",
        "purchase",
        "--product",
        "growth",
        "--organization",
        ROCKETS,
    ];
    assert_eq!(beside(data.path(), &bought).await.code, Some(0));
    until(async || {
        let shown = beside(data.path(), &in_step).await;
        shown.out.contains(r#""plan":"Growth""#)
    })
    .await;
    until(two_alive).await;
    let doctor = beside(data.path(), &["doctor"]).await;
    assert!(
        doctor.out.contains("calls to Polar may go out"),
        "{}",
        doctor.out
    );
    signal(&left_over, "TERM");
    assert_eq!(ended(&mut left_over), Some(Some(0)));
    signal(&second, "TERM");
    assert_eq!(ended(&mut second), Some(Some(0)));
}

#[test]
fn a_shell_with_the_settings_of_another_dev_is_refused() {
    let refused = run(
        &[
            ("POLAR_JOBS_DEV", "/home/ada/other/var"),
            ("DATABASE_URL", "postgres://nobody@127.0.0.1:1/other"),
        ],
        &["dev", "--once", "--port", "0"],
    );
    assert_eq!(refused.code, Some(2), "{}", refused.out);
    assert!(
        refused.err.contains("/home/ada/other/var"),
        "{}",
        refused.err
    );
}

#[test]
fn a_port_that_is_taken_is_named_with_the_argument_that_chooses_another() {
    let data = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut arguments = dev(&data);
    arguments[2] = &port;
    let refused = run(&[], &arguments);
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.err.contains(&port)
            && refused.err.contains("--port")
            && !refused.err.contains("BIND"),
        "{}",
        refused.err
    );
}

#[test]
fn two_demo_scenarios_do_not_run_in_one_directory() {
    let data = tempfile::tempdir().unwrap();
    let arguments = dev(&data);
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
