//! Small servers offer few connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jobs::contract::Queue;
use polar_jobs::migrate;
use polar_jobs::queue::connect::{ConnectionBudget, Pooler, QueueDatabase};
use polar_jobs::worker::{QueueSlots, WorkerSettings};
use private_postgres::{Durability, Options, Server, ensure_database};
use serde_json::json;
use sqlx::Connection;
use tokio::task::JoinSet;

use crate::ingress_support::{Delivery, SECRET, TOKEN, TestIngress};
use crate::script::{Act, Script};
use crate::test_app::{TestApp, Worker, eventually_some};

/// What two workers and an ingress may count on.
const TOGETHER: i64 = 20;
/// Three more, for this test's own eyes.
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

async fn settings(app: &TestApp) -> WorkerSettings {
    let mut settings = app.settings(50).await;
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

async fn ours(app: &TestApp) -> i64 {
    app.number("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'polar-jobs %'")
        .await
}

/// An ingress with the connections that one has by default.
async fn ingress(url: &str) -> TestIngress {
    let most = ConnectionBudget::DEFAULT;
    let database = QueueDatabase::new(url, Pooler::None).unwrap();
    let options = database.plain().application_name("polar-jobs pool");
    let pool = QueueDatabase::pool(options, ConnectionBudget::ingress_pool(most));
    TestIngress::on(url.to_owned(), pool, &[SECRET], Some(TOKEN)).await
}

/// Deliveries and changes until it is stopped, each of which must be taken.
async fn send_all_the_time(ingress: Arc<TestIngress>, over: Arc<AtomicBool>) -> usize {
    let mut sent = 0;
    while !over.load(Ordering::Relaxed) {
        let delivered = ingress.deliver(&Delivery::grant()).await;
        assert_eq!(delivered.status, 202, "{delivered:?}");
        let id = uuid::Uuid::new_v4();
        let change = json!({"id": id, "type": "usage.recorded", "data": {"organization_id": id, "quantity": 3}});
        let changed = ingress.change(&change).await;
        assert_eq!(changed.status, 202, "{changed:?}");
        sent += 1;
    }
    sent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_and_an_ingress_stay_within_twenty_connections_and_hold_few_when_idle() {
    let directory = tempfile::tempdir().unwrap();
    let (server, url) = small_server(directory.path()).await;
    let mut app = TestApp::at(&url).await;
    app.pool.close().await;
    let options = sqlx::postgres::PgPoolOptions::new().max_connections(EYES);
    app.pool = options.connect(&url).await.unwrap();
    let mut all = Vec::new();
    for _ in 0..2 {
        all.push(Worker::start(settings(&app).await));
    }
    let (ingress, over) = (
        Arc::new(ingress(&url).await),
        Arc::new(AtomicBool::new(false)),
    );
    let mut senders = JoinSet::new();
    for _ in 0..8 {
        senders.spawn(send_all_the_time(Arc::clone(&ingress), Arc::clone(&over)));
    }
    let jobs: Vec<_> = (0..600)
        .map(|n| {
            let queue = [Queue::Default, Queue::Mail, Queue::Bulk][n % 3];
            Script::new("n", [vec![Act::Write(n.to_string()), Act::Work(5)]]).row_in(queue)
        })
        .collect();
    app.add_all(&jobs).await;
    let mut most = 0;
    let left = "SELECT count(*) FROM polar_jobs.live_jobs WHERE kind = 'trial'";
    while app.number(left).await > 0 {
        most = most.max(ours(&app).await);
    }
    over.store(true, Ordering::Relaxed);
    while let Some(sent) = senders.join_next().await {
        assert!(sent.unwrap() > 0, "everybody was served");
    }
    assert!(most <= TOGETHER, "{most} connections");
    let charged = "SELECT count(*) FROM polar_jobs.jobs WHERE kind = 'trial' AND errors <> '[]'";
    assert_eq!(app.number(charged).await, 0);
    let ingress = Arc::into_inner(ingress).expect("the senders are gone");
    ingress.pool.close().await;
    ingress.close().await;
    // These workers do not know what the ingress enqueued, and look at it again and again.
    app.execute("DELETE FROM polar_jobs.live_jobs").await;
    // What nobody uses is closed after ten seconds.
    eventually_some("at most four each", || async {
        let held = ours(&app).await;
        if held <= 8 {
            Ok(())
        } else {
            Err(held.to_string())
        }
    })
    .await;
    let idle = idle_transactions(&app, &url).await;
    assert!(idle <= 2.0 * 4.0, "{idle} transactions a second");
    for worker in all {
        worker.stop().await;
    }
    tokio::task::spawn_blocking(move || server.stop().unwrap())
        .await
        .unwrap();
}

/// Transactions of all sessions per second, while nothing happens.
async fn idle_transactions(app: &TestApp, url: &str) -> f64 {
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
    app.pool.close().await;
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
