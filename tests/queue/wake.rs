//! A sleeping worker is woken, and polling finds what nobody is notified of.

use std::time::{Duration, Instant};

use polar_jobs::queue::connect::{Pooler, QueueDatabase};
use polar_jobs::queue::{lease, notifier::Notifier};

use crate::ledger::Mark;
use crate::script::Script;
use crate::test_app::{TestApp, Worker, eventually_some, register};

const ROUNDS: usize = 30;

/// Polls alone would need half a second a round on average.
async fn woken_each_time(app: &TestApp, mut enqueue: impl AsyncFnMut(&str)) {
    let mut spent = Duration::ZERO;
    for round in 0..ROUNDS {
        app.until_asleep().await;
        let label = format!("{spent:?} {round}");
        let begun = Instant::now();
        enqueue(&label).await;
        app.ledger.reached(Mark::Started, &label, 1).await;
        spent += begun.elapsed();
    }
    assert!(
        spent < Duration::from_secs(7),
        "{ROUNDS} rounds took {spent:?}"
    );
}

async fn by_sql(app: &TestApp) {
    woken_each_time(app, async |label| {
        sqlx::query("SELECT polar_jobs.enqueue('trial', jsonb_build_object('label', $1::text))")
            .bind(label)
            .execute(&app.pool)
            .await
            .unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_job_from_sql_wakes_a_sleeping_worker() {
    let app = TestApp::new().await;
    let worker = app.work(4).await;
    by_sql(&app).await;
    worker.stop().await;
}

/// Connections that may be used for notifications, and are known by their name.
fn notifying_pool(app: &TestApp) -> sqlx::PgPool {
    let database = QueueDatabase::new(&app.url, Pooler::None).unwrap();
    QueueDatabase::pool(database.plain().application_name("notifying"), 1)
}

#[tokio::test]
async fn a_notification_wakes_a_sleeping_worker_also_after_its_connection_was_cut() {
    let app = TestApp::new().await;
    let worker = app.work(4).await;
    let notifier = Notifier::new(notifying_pool(&app), Pooler::None);
    let enqueue = async |label: &str| {
        app.add(Script::note(label).row()).await;
        notifier.notify("default");
    };
    woken_each_time(&app, enqueue).await;
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'notifying'";
    assert_eq!(app.number(cut).await, 1);
    app.add(Script::note("in vain").row()).await;
    notifier.notify("default");
    app.ledger.reached(Mark::Started, "in vain", 1).await;
    woken_each_time(&app, enqueue).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_busy_process_sends_at_most_one_notification_per_queue_and_fifty_milliseconds() {
    let app = TestApp::new().await;
    let worker = app.work(4).await;
    app.until_asleep().await;
    let mut listener = sqlx::postgres::PgListener::connect(&app.url).await.unwrap();
    listener.listen("polar_jobs").await.unwrap();
    let notifier = Notifier::new(notifying_pool(&app), Pooler::None);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(1) {
        notifier.notify("default");
        tokio::task::yield_now().await;
    }
    // Nine before it counts as busy, and one on its way.
    let most = begun.elapsed().as_millis() / 50 + 10;
    sqlx::query("NOTIFY polar_jobs, 'end'")
        .execute(&app.pool)
        .await
        .unwrap();
    let mut received = 0;
    while listener.recv().await.unwrap().payload() != "end" {
        received += 1;
    }
    assert!(received > 0 && received <= most, "{received} of {most}");
    worker.stop().await;
}

#[tokio::test]
async fn a_worker_whose_session_was_cut_is_notified_again() {
    let app = TestApp::new().await;
    let worker = app.work(4).await;
    let before = app.session("polar-jobs lease").await;
    app.execute(&format!("SELECT pg_terminate_backend({before})"))
        .await;
    eventually_some("a new session", || async {
        let now = app.session("polar-jobs lease").await;
        if now == before {
            Err(String::new())
        } else {
            Ok(())
        }
    })
    .await;
    by_sql(&app).await;
    worker.stop().await;
}

#[tokio::test]
async fn behind_a_pooler_polling_finds_every_job_and_no_session_is_used() {
    let app = TestApp::new().await;
    let mut settings = app.settings(4).await;
    settings.database = QueueDatabase::new(&app.url, Pooler::Transaction).unwrap();
    let worker = Worker::start(settings);
    for label in ["1", "2", "3"] {
        let id = app.add(Script::note(label).row()).await;
        app.until_state(id, "completed").await;
    }
    assert_eq!(
        app.number("SELECT count(*) FROM polar_jobs.workers WHERE session_lock")
            .await,
        0
    );
    let advisory = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    assert_eq!(app.number(advisory).await, 0);
    worker.stop().await;
}

#[tokio::test]
async fn a_steady_stream_of_failures_does_not_put_off_the_poll() {
    let app = TestApp::new().await;
    let mut settings = app.settings(4).await;
    settings.database = QueueDatabase::new(&app.url, Pooler::Transaction).unwrap();
    let worker = Worker::start(settings);
    // Each attempt ends with a snooze too short to sleep through, so something happens all the time.
    let busy = Script::new(
        "busy",
        [vec![
            crate::script::Act::Work(100),
            crate::script::Act::Snooze(0.3),
        ]],
    );
    app.add(busy.row()).await;
    app.ledger.reached(Mark::Started, "busy", 3).await;
    for n in 0..3 {
        let id = app.add(Script::note(&format!("other {n}")).row()).await;
        app.until_state(id, "completed").await;
    }
    worker.stop().await;
}

#[tokio::test]
async fn a_session_that_was_cut_does_not_keep_its_worker_from_its_own_lock() {
    let app = TestApp::new().await;
    let (mut old, mut new) = (app.connect().await, app.connect().await);
    let worker = register(&mut old).await;
    lease::take_session_lock(&mut old, worker).await.unwrap();
    assert!(lease::begin_session(&mut old, worker, true).await.unwrap());
    let again = tokio::time::timeout(
        Duration::from_secs(10),
        lease::take_session_lock(&mut new, worker),
    )
    .await;
    again
        .expect("the old session may live on for hours")
        .unwrap();
    assert!(lease::begin_session(&mut new, worker, true).await.unwrap());
}
