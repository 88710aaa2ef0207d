//! Postgres dies and comes back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jobs::NewJob;
use polar_jobs::queue::enqueue;
use private_postgres::testing::durable_server;
use sqlx::{Connection, PgConnection};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::ledger::Mark;
use crate::script::{Act, Script};
use crate::test_app::{TestApp, eventually_some};

/// Enqueues until it is stopped; the ids of acknowledged jobs.
async fn enqueue_all_the_time(
    url: String,
    writer: usize,
    acknowledged: Arc<Mutex<BTreeSet<i64>>>,
    over: Arc<AtomicBool>,
) {
    let mut connection = None;
    let mut number = 0;
    while !over.load(Ordering::Relaxed) {
        let Some(open) = connection.as_mut() else {
            connection = PgConnection::connect(&url).await.ok();
            // A refused connection answers at once: without a pause this would never yield.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        number += 1;
        let script = Script::new("n", [vec![Act::Work(5)]]);
        let row: NewJob = if number % 3 == 0 {
            script.ordered(&format!("{writer}")).row()
        } else {
            script.row()
        };
        match enqueue::insert_returning_id(open, &row).await {
            Ok(id) => drop(acknowledged.lock().await.insert(id.unwrap())),
            Err(_) => connection = None,
        }
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
}

/// Fails with its reason instead of hanging.
async fn within<T>(deadline: Duration, test: impl Future<Output = T>) -> T {
    tokio::time::timeout(deadline, test)
        .await
        .unwrap_or_else(|_| panic!("not over after {deadline:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_restarts_ten_times_under_load_and_nothing_is_lost_or_run_twice() {
    within(Duration::from_secs(300), restart_ten_times()).await;
}

async fn restart_ten_times() {
    const SLOTS: usize = 10;
    let postgres = Arc::new(durable_server(polar_jobs::migrate::migrator).await);
    let app = TestApp::at(&postgres.url).await;
    let workers = [app.work(SLOTS).await, app.work(SLOTS).await];
    let (acknowledged, over) = (Arc::default(), Arc::new(AtomicBool::new(false)));
    // Ends with the test, however that ends.
    let mut writers = JoinSet::new();
    for writer in 0..3 {
        writers.spawn(enqueue_all_the_time(
            postgres.url.clone(),
            writer,
            Arc::clone(&acknowledged),
            Arc::clone(&over),
        ));
    }
    for round in 0..10 {
        let ended = app.ledger.count(Mark::Ended, "n");
        app.ledger.reached(Mark::Ended, "n", ended + 50).await;
        let server = Arc::clone(&postgres);
        let restart = move || {
            if round % 3 == 2 {
                server.server.kill9().unwrap();
            }
            server.server.restart().unwrap();
        };
        tokio::task::spawn_blocking(restart).await.unwrap();
    }
    over.store(true, Ordering::Relaxed);
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
    eventually_some("every job is done", || async {
        let left: Result<i64, _> = sqlx::query_scalar("SELECT count(*) FROM polar_jobs.live_jobs")
            .fetch_one(&app.pool)
            .await;
        if matches!(left, Ok(0)) {
            Ok(())
        } else {
            Err(format!("{left:?} jobs live"))
        }
    })
    .await;
    let completed: Vec<i64> =
        sqlx::query_scalar("SELECT id FROM polar_jobs.jobs WHERE state = 'completed' ORDER BY id")
            .fetch_all(&app.pool)
            .await
            .unwrap();
    let acknowledged = acknowledged.lock().await.clone();
    let lost: Vec<_> = acknowledged
        .iter()
        .filter(|id| completed.binary_search(id).is_err())
        .collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    assert!(acknowledged.len() > 500);
    // A worker outlives its database, so even what was in flight is stored afterwards, not run again.
    let mut ended: Vec<i64> = app
        .ledger
        .entries()
        .into_iter()
        .filter(|entry| entry.mark == Mark::Ended)
        .map(|entry| entry.job)
        .collect();
    ended.sort_unstable();
    let twice = ended.windows(2).filter(|pair| pair[0] == pair[1]).count();
    assert_eq!(twice, 0, "of {} runs", ended.len());
    for worker in workers {
        assert!(!worker.is_over(), "the worker lived on");
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_without_its_database_stops_in_time() {
    within(Duration::from_secs(60), stop_without_database()).await;
}

async fn stop_without_database() {
    let postgres = Arc::new(durable_server(polar_jobs::migrate::migrator).await);
    let app = TestApp::at(&postgres.url).await;
    let mut settings = app.settings(4).await;
    settings.drain_timeout = Duration::from_secs(1);
    let mut worker = crate::test_app::Worker::start(settings);
    app.add(Script::hold("held").row()).await;
    app.ledger.reached(Mark::Started, "held", 1).await;
    let server = Arc::clone(&postgres);
    tokio::task::spawn_blocking(move || server.server.stop().unwrap())
        .await
        .unwrap();
    let begun = Instant::now();
    worker.ask_to_stop();
    worker.end().await.unwrap();
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
}
