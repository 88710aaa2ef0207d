//! Sessions are cut while their workers live: nobody else may take their jobs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use private_postgres::testing::durable_server;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};

use crate::killed::{log, watcher};
use crate::ledger::Mark;
use crate::process::Process;
use crate::script::{Act, Script};
use crate::test_app::{TestApp, eventually_some};

const LEASES: &str =
    "SELECT count(*) FROM polar_jobs.workers WHERE polar_jobs.holds_session_lock(id)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_whose_lease_sessions_are_cut_keep_their_jobs_and_take_the_lock_again_at_once() {
    const JOBS: usize = 300;
    const CUTS: usize = 12;
    let app = TestApp::new().await;
    let workers = [app.work(10).await, app.work(10).await];
    app.until_number(LEASES, 2).await;
    let jobs: Vec<_> = (0..JOBS)
        .map(|n| Script::new(&n.to_string(), [vec![Act::Work(300)]]).row())
        .collect();
    app.add_all(&jobs).await;
    for cut in 0..CUTS {
        let begun = Instant::now();
        let sessions = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
                         WHERE datname = current_database() AND application_name = 'polar-jobs lease'";
        assert!(app.number(sessions).await > 0, "cut {cut}");
        app.until_number(LEASES, 2).await;
        assert!(
            begun.elapsed() < Duration::from_secs(2),
            "the lock was taken again after {:?}",
            begun.elapsed()
        );
    }
    app.until_empty().await;
    let charged = "SELECT count(*) FROM polar_jobs.jobs WHERE errors <> '[]' OR attempt > 1";
    assert_eq!(app.number(charged).await, 0);
    assert_eq!(
        app.ledger.labels(Mark::Started).len(),
        JOBS,
        "each ran once"
    );
    for worker in workers {
        assert!(!worker.is_over());
        worker.stop().await;
    }
}

/// As where a server has no place for another session, while those that are there go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_find_no_place_for_a_new_lease_session_keep_their_jobs() {
    let app = TestApp::new().await;
    let workers = [app.work(4).await, app.work(4).await];
    app.until_number(LEASES, 2).await;
    let id = app
        .add(Script::new("slow", [vec![Act::Work(8_000)]]).row())
        .await;
    app.until_state(id, "running").await;
    let options = app.pool.connect_options();
    // Only what is connected already gets through: one connection, and no pool that might open another.
    let inside = PgPoolOptions::new().max_connections(1);
    let inside = inside.connect_with((*options).clone()).await.unwrap();
    let database = options.get_database().unwrap().to_owned();
    let elsewhere = (*options).clone().database("postgres");
    let mut elsewhere = elsewhere.connect().await.unwrap();
    let close = format!("ALTER DATABASE {database} ALLOW_CONNECTIONS false");
    let open = format!("ALTER DATABASE {database} ALLOW_CONNECTIONS true");
    elsewhere.execute(AssertSqlSafe(close)).await.unwrap();
    let cut = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
                WHERE datname = $1 AND application_name = 'polar-jobs lease'";
    let cut: i64 = sqlx::query_scalar(cut)
        .bind(&database)
        .fetch_one(&mut elsewhere)
        .await
        .unwrap();
    assert_eq!(cut, 2);
    let number = async |sql: &'static str| -> i64 {
        let number = sqlx::query_scalar(sql).fetch_one(&inside).await;
        number.unwrap()
    };
    eventually_some("the job is done", || async {
        match number("SELECT count(*) FROM polar_jobs.live_jobs").await {
            0 => Ok(()),
            left => Err(left.to_string()),
        }
    })
    .await;
    assert_eq!(number(LEASES).await, 0, "nobody has a lease session");
    let once = "SELECT count(*) FROM polar_jobs.jobs WHERE state = 'completed' AND attempt = 1 AND errors = '[]'";
    assert_eq!(number(once).await, 1);
    elsewhere.execute(AssertSqlSafe(open)).await.unwrap();
    app.until_number(LEASES, 2).await;
    for worker in workers {
        assert!(!worker.is_over());
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_comes_back_late_after_the_crash_of_a_backend_keeps_its_jobs() {
    let postgres = Arc::new(durable_server(polar_jobs::migrate::migrator).await);
    let app = TestApp::at(&postgres.url).await;
    let (_directory, log) = log();
    let job = Script::new("slow", [vec![Act::Work(9_000)]]);
    let (mut slow, id) = Process::start_with_job(&app, &log, job).await;
    let watcher = watcher(&app).await;
    app.until_number(LEASES, 2).await;
    let incarnation = "SELECT hashtextextended(polar_jobs.server_incarnation(), 0)";
    let started = "SELECT extract(epoch FROM pg_postmaster_start_time())::bigint";
    let (before, up_since) = (app.number(incarnation).await, app.number(started).await);
    // It cannot come back while it is stopped, so its lock stays free after the crash.
    slow.stop();
    kill_a_backend(&app).await;
    eventually_some("the server is back", || async {
        let alive: Result<i64, _> = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity
              WHERE application_name = 'polar-jobs housekeeping' AND backend_start < now() - interval '4 seconds'",
        )
        .fetch_one(&app.pool)
        .await;
        match alive {
            Ok(1..) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert_eq!(app.number(started).await, up_since, "no restart to be seen");
    assert_ne!(app.number(incarnation).await, before);
    let row = app.job(id).await;
    assert_eq!(
        (row.state.as_str(), row.attempt, row.failures()),
        ("running", 1, 0)
    );
    slow.signal("-CONT");
    app.until_state(id, "completed").await;
    assert_eq!(app.job(id).await.failures(), 0);
    assert!(log.repeated().is_empty());
    slow.signal("-TERM");
    assert!(slow.end().await, "a clean stop is a good end");
    watcher.stop().await;
}

/// Signal 9 to one session: Postgres ends all of them and recovers, without a restart of its own.
async fn kill_a_backend(app: &TestApp) {
    let pid = app.number("SELECT pg_backend_pid()::bigint").await;
    let killed = tokio::process::Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status()
        .await
        .unwrap();
    assert!(killed.success());
}

#[tokio::test]
async fn the_jobs_of_a_killed_worker_are_free_within_four_seconds() {
    let app = TestApp::new().await;
    let (_directory, log) = log();
    let held = Script::new("held", [vec![Act::Hang], vec![]]);
    let (mut victim, id) = Process::start_with_job(&app, &log, held).await;
    let other = app.work(4).await;
    app.until_number(LEASES, 2).await;
    victim.signal("-9");
    let killed = Instant::now();
    assert!(!victim.end().await);
    app.until_state(id, "completed").await;
    assert!(
        killed.elapsed() < Duration::from_secs(4),
        "{:?}",
        killed.elapsed()
    );
    assert_eq!(app.job(id).await.last_error(), "the worker died");
    other.stop().await;
}
