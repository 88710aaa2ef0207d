//! A person holds the row of a job that ends: only that job waits.

use jobs::contract::Queue;
use polar_jobs::queue::connect::QueueDatabase;
use polar_jobs::worker::QueueSlots;
use sqlx::Connection;

use crate::ledger::Mark;
use crate::script::{Act, Script};
use crate::stand::{Stand, Worker};

async fn hold_up(acts: &dyn Fn(&str) -> Vec<Act>) {
    let stand = Stand::new().await;
    let mut settings = stand.settings(8).await;
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
    let ids = stand.add_all(&jobs).await;
    for label in ["a", "b", "c"] {
        stand.ledger.reached(Mark::Started, label, 1).await;
    }
    let held = ids[1].unwrap();
    let mut person = stand.connect().await;
    let mut open = person.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM polar_jobs.live_jobs WHERE id = $1 FOR UPDATE")
        .bind(held)
        .execute(&mut *open)
        .await
        .unwrap();
    stand.ledger.open("go");
    for id in [ids[0], ids[2]] {
        let ended = "SELECT count(*) FROM polar_jobs.jobs WHERE state <> 'running' AND id = ";
        stand
            .until_number(&format!("{ended}{}", id.unwrap()), 1)
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
        let id = stand
            .add(Script::note(&round.to_string()).row_in(queue))
            .await;
        stand
            .execute(&format!("NOTIFY polar_jobs, '{}'", queue.name()))
            .await;
        stand.until_state(id, "completed").await;
    }
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
    let row = stand.job(held).await;
    assert_eq!((row.state.as_str(), row.attempt), ("running", 1));
    open.commit().await.unwrap();
    stand
        .until_number(
            &format!(
                "SELECT count(*) FROM polar_jobs.jobs WHERE state <> 'running' AND id = {held}"
            ),
            1,
        )
        .await;
    assert_eq!(stand.job(held).await.attempt, 1, "it ran once");
    worker.stop().await;
}

#[tokio::test]
async fn a_held_row_of_a_completed_job_holds_up_no_other() {
    hold_up(&|gate| vec![Act::Hold(gate.into())]).await;
}

#[tokio::test]
async fn a_held_row_of_a_discarded_job_holds_up_no_other() {
    hold_up(&|gate| vec![Act::Hold(gate.into()), Act::Discard("no".into())]).await;
}

#[tokio::test]
async fn a_held_row_of_a_job_that_waits_again_holds_up_no_other() {
    hold_up(&|gate| vec![Act::Hold(gate.into()), Act::Snooze(3600.0)]).await;
}

#[tokio::test]
async fn a_held_row_of_a_job_with_local_writes_does_not_keep_its_connection_from_others() {
    let stand = Stand::new().await;
    let mut settings = stand.settings(4).await;
    settings.pool = QueueDatabase::pool(settings.database.plain(), 1);
    let worker = Worker::start(settings);
    let writing = |label: &str| {
        let acts = vec![Act::Hold("go".into()), Act::Write(label.into())];
        Script::new(label, [acts]).row()
    };
    let held = stand.add(writing("held")).await;
    stand.ledger.reached(Mark::Started, "held", 1).await;
    let mut person = stand.connect().await;
    let mut open = person.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM polar_jobs.live_jobs WHERE id = $1 FOR UPDATE")
        .bind(held)
        .execute(&mut *open)
        .await
        .unwrap();
    stand.ledger.open("go");
    stand.ledger.reached(Mark::Ended, "held", 1).await;
    let other = stand.add(writing("other")).await;
    let row = stand.until_state(other, "completed").await;
    assert_eq!((row.attempt, row.failures()), (1, 0));
    open.commit().await.unwrap();
    // Its writes were rolled back, so it runs again; nothing is charged.
    let row = stand.until_state(held, "completed").await;
    assert_eq!((row.attempt, row.failures()), (2, 0));
    let written =
        "SELECT count(*) FROM polar_jobs.schedule_ticks WHERE schedule IN ('held', 'other')";
    assert_eq!(stand.number(written).await, 2);
    worker.stop().await;
}
