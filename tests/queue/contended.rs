//! A person holds the row of a job that ends: only that job waits.

use jobs::contract::Queue;
use polar_jobs::queue::connect::QueueDatabase;
use polar_jobs::worker::QueueSlots;
use sqlx::Connection;

use crate::ledger::Mark;
use crate::script::{Act, Script};
use crate::test_app::{TestApp, Worker};

async fn hold_up(acts: &dyn Fn(&str) -> Vec<Act>) {
    let app = TestApp::new().await;
    let mut settings = app.settings(8).await;
    settings.queues = ["default", "mail"]
        .map(|queue| QueueSlots {
            queue: queue.to_owned(),
            slots: 4,
        })
        .to_vec();
    let worker = Worker::start(settings);
    let jobs: Vec<_> = ["a", "b", "c"]
        .map(|label| Script::new(label, [acts("go"), vec![]]).row())
        .to_vec();
    let ids = app.add_all(&jobs).await;
    for label in ["a", "b", "c"] {
        app.ledger.reached(Mark::Started, label, 1).await;
    }
    let held = ids[1].unwrap();
    let mut person = app.connect().await;
    let mut open = person.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM polar_jobs.live_jobs WHERE id = $1 FOR UPDATE")
        .bind(held)
        .execute(&mut *open)
        .await
        .unwrap();
    app.ledger.open("go");
    for id in [ids[0], ids[2]] {
        let ended = "SELECT count(*) FROM polar_jobs.jobs WHERE state <> 'running' AND id = ";
        app.until_number(&format!("{ended}{}", id.unwrap()), 1)
            .await;
    }
    // Twenty one after the other, on both queues: had each to wait for the lock's timeout, this would fail.
    let begun = std::time::Instant::now();
    for round in 0..20 {
        let queue = if round % 2 == 0 {
            Queue::Default
        } else {
            Queue::Mail
        };
        let id = app
            .add(Script::note(&round.to_string()).row_in(queue))
            .await;
        app.execute(&format!("NOTIFY polar_jobs, '{}'", queue.name()))
            .await;
        app.until_state(id, "completed").await;
    }
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
    let row = app.job(held).await;
    assert_eq!((row.state.as_str(), row.attempt), ("running", 1));
    open.commit().await.unwrap();
    app.until_number(
        &format!("SELECT count(*) FROM polar_jobs.jobs WHERE state <> 'running' AND id = {held}"),
        1,
    )
    .await;
    assert_eq!(app.job(held).await.attempt, 1, "it ran once");
    worker.stop().await;
}

#[tokio::test]
async fn a_held_row_of_a_completed_job_holds_up_no_other() {
    hold_up(&|latch| vec![Act::Hold(latch.into())]).await;
}

#[tokio::test]
async fn a_held_row_of_a_discarded_job_holds_up_no_other() {
    hold_up(&|latch| vec![Act::Hold(latch.into()), Act::Discard("no".into())]).await;
}

#[tokio::test]
async fn a_held_row_of_a_job_that_waits_again_holds_up_no_other() {
    hold_up(&|latch| vec![Act::Hold(latch.into()), Act::Snooze(3600.0)]).await;
}

#[tokio::test]
async fn a_held_row_of_a_job_with_local_writes_does_not_keep_its_connection_from_others() {
    let app = TestApp::new().await;
    let mut settings = app.settings(4).await;
    settings.pool = QueueDatabase::pool(settings.database.plain(), 1);
    let worker = Worker::start(settings);
    let writing = |label: &str| {
        let acts = vec![Act::Hold("go".into()), Act::Write(label.into())];
        Script::new(label, [acts]).row()
    };
    let held = app.add(writing("held")).await;
    app.ledger.reached(Mark::Started, "held", 1).await;
    let mut person = app.connect().await;
    let mut open = person.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM polar_jobs.live_jobs WHERE id = $1 FOR UPDATE")
        .bind(held)
        .execute(&mut *open)
        .await
        .unwrap();
    app.ledger.open("go");
    app.ledger.reached(Mark::Ended, "held", 1).await;
    let other = app.add(writing("other")).await;
    let row = app.until_state(other, "completed").await;
    assert_eq!((row.attempt, row.failures()), (1, 0));
    open.commit().await.unwrap();
    // Its writes were rolled back, so it runs again; nothing is charged.
    let row = app.until_state(held, "completed").await;
    assert_eq!((row.attempt, row.failures()), (2, 0));
    let written =
        "SELECT count(*) FROM polar_jobs.schedule_ticks WHERE schedule IN ('held', 'other')";
    assert_eq!(app.number(written).await, 2);
    worker.stop().await;
}
