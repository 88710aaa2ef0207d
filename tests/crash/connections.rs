//! Small servers offer few connections.

use std::time::Duration;

use jobs::contract::Queue;
use polar_jobs::migrate;
use polar_jobs::queue::connect::{ConnectionBudget, QueueDatabase};
use polar_jobs::worker::{QueueSlots, WorkerSettings};
use private_postgres::{Durability, Options, Server, ensure_database};
use sqlx::Connection;

use crate::script::{Act, Script};
use crate::stand::{Stand, Worker, eventually};

/// Three more for this test's own queries than two workers and an ingress may count on.
const CONNECTIONS: &str = "23";
const EYES: u32 = 3;

async fn small_server(directory: &std::path::Path) -> (Server, String) {
    let options = Options {
        durability: Durability::Throwaway,
        settings: vec![
            ("max_connections".to_owned(), CONNECTIONS.to_owned()),
            // Its transactions are not ours.
            ("autovacuum".to_owned(), "off".to_owned()),
        ],
        ..Options::durable(directory)
    };
    let server = tokio::task::spawn_blocking(move || Server::start(&options))
        .await
        .unwrap()
        .unwrap();
    ensure_database(&server.url("postgres"), "polar_jobs")
        .await
        .unwrap();
    let url = server.url("polar_jobs");
    migrate::run_url(&url).await.unwrap();
    (server, url)
}

async fn settings(stand: &Stand) -> WorkerSettings {
    let mut settings = stand.settings(50).await;
    settings.queues = ["default", "mail", "bulk"]
        .map(|queue| QueueSlots {
            queue: queue.to_owned(),
            slots: 50,
        })
        .to_vec();
    settings.pool.close().await;
    let options = settings
        .database
        .plain()
        .application_name("polar-jobs jobs");
    settings.pool = QueueDatabase::pool(options, settings.connections.jobs);
    settings
}

async fn ours(stand: &Stand) -> i64 {
    stand
        .number("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'polar-jobs %'")
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_of_three_queues_stay_within_their_connections_and_hold_few_when_idle() {
    let directory = tempfile::tempdir().unwrap();
    let (server, url) = small_server(directory.path()).await;
    let mut stand = Stand::at(&url).await;
    stand.pool.close().await;
    let options = sqlx::postgres::PgPoolOptions::new().max_connections(EYES);
    stand.pool = options.connect(&url).await.unwrap();
    let total = 10;
    let mut all = Vec::new();
    for _ in 0..2 {
        let mut settings = settings(&stand).await;
        settings.connections = ConnectionBudget::of(total);
        all.push(Worker::start(settings));
    }
    let jobs: Vec<_> = (0..600)
        .map(|n| {
            let queue = [Queue::Default, Queue::Mail, Queue::Bulk][n % 3];
            Script::new("n", [vec![Act::Write(n.to_string()), Act::Work(5)]]).row_in(queue)
        })
        .collect();
    stand.add_all(&jobs).await;
    let mut most = 0;
    while stand
        .number("SELECT count(*) FROM polar_jobs.live_jobs")
        .await
        > 0
    {
        most = most.max(ours(&stand).await);
    }
    assert!(most <= i64::from(2 * total), "{most} connections");
    let charged = "SELECT count(*) FROM polar_jobs.jobs WHERE errors <> '[]'";
    assert_eq!(stand.number(charged).await, 0);
    // What nobody uses is closed after ten seconds.
    eventually("at most four each", || async {
        let held = ours(&stand).await;
        if held <= 8 {
            Ok(())
        } else {
            Err(held.to_string())
        }
    })
    .await;
    let idle = idle_transactions(&stand, &url).await;
    assert!(idle <= 2.0 * 4.0, "{idle} transactions a second");
    for worker in all {
        worker.stop().await;
    }
    tokio::task::spawn_blocking(move || server.stop().unwrap())
        .await
        .unwrap();
}

/// Transactions of all sessions per second, while nothing happens.
async fn idle_transactions(stand: &Stand, url: &str) -> f64 {
    const SECONDS: u32 = 20;
    let commits = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()";
    // Each look with a session of its own, so that nothing of it is counted late.
    let look = async || {
        let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
        let count: i64 = sqlx::query_scalar(commits)
            .fetch_one(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
        count
    };
    stand.pool.close().await;
    let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
    // A session that ends hands in what it counted before it is gone.
    let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                   AND pid <> pg_backend_pid() AND application_name NOT LIKE 'polar-jobs %'";
    loop {
        let left: i64 = sqlx::query_scalar(others)
            .fetch_one(&mut connection)
            .await
            .unwrap();
        if left == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    connection.close().await.unwrap();
    let before = look().await;
    tokio::time::sleep(Duration::from_secs(SECONDS.into())).await;
    (look().await - before) as f64 / f64::from(SECONDS)
}
