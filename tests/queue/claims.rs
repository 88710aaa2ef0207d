//! What is claimed, when, and how much of it.

use std::sync::Arc;

use chrono::{Duration, Utc};
use jobs::contract::Queue;
use polar_jobs::worker::QueueSlots;

use crate::ledger::{Ledger, Mark};
use crate::script::{Act, Script};
use crate::test_app::{TestApp, Worker};

fn most_at_once(ledger: &Arc<Ledger>, of: impl Fn(&str) -> bool) -> usize {
    let (mut now, mut most) = (0_usize, 0);
    for entry in ledger.entries().iter().filter(|entry| of(&entry.label)) {
        match entry.mark {
            Mark::Started => now += 1,
            _ => now -= 1,
        }
        most = most.max(now);
    }
    most
}

#[tokio::test]
async fn the_most_urgent_runs_first_then_the_earliest() {
    let app = TestApp::new().await;
    let ago = |minutes| Utc::now() - Duration::minutes(minutes);
    app.add(Script::note("late mail").row().with_priority(10).at(ago(1)))
        .await;
    app.add(
        Script::note("early mail")
            .row()
            .with_priority(10)
            .at(ago(2)),
    )
    .await;
    app.add(Script::note("entitlement").row().with_priority(0))
        .await;
    app.add(Script::note("before all").row().with_priority(-5))
        .await;
    let worker = app.work(1).await;
    app.until_empty().await;
    assert_eq!(
        app.ledger.labels(Mark::Started),
        ["before all", "entitlement", "early mail", "late mail"]
    );
    worker.stop().await;
}

#[tokio::test]
async fn a_delayed_job_waits_for_its_time() {
    let app = TestApp::new().await;
    let worker = app.work(4).await;
    let id = app
        .add(
            Script::note("later")
                .row()
                .at(Utc::now() + Duration::hours(1)),
        )
        .await;
    let now = app.add(Script::note("now").row()).await;
    app.until_state(now, "completed").await;
    assert_eq!(app.job(id).await.attempt, 0);
    app.due_now(id).await;
    app.until_state(id, "completed").await;
    worker.stop().await;
}

#[tokio::test]
async fn urgent_jobs_of_tomorrow_do_not_hide_what_is_due_today() {
    let app = TestApp::new().await;
    let tomorrow = Utc::now() + Duration::days(1);
    let ahead: Vec<_> = (0..2000)
        .map(|_| Script::note("ahead").row().with_priority(-10).at(tomorrow))
        .collect();
    app.add_all(&ahead).await;
    let id = app.add(Script::note("due").row().with_priority(30)).await;
    let worker = app.work(4).await;
    app.until_state(id, "completed").await;
    assert_eq!(app.ledger.count(Mark::Started, "ahead"), 0);
    worker.stop().await;
}

#[tokio::test]
async fn a_paused_queue_finishes_what_runs_and_starts_nothing() {
    let app = TestApp::new().await;
    let worker = app.work(4).await;
    let held = app.add(Script::hold("held").row()).await;
    app.ledger.reached(Mark::Started, "held", 1).await;
    app.execute("UPDATE polar_jobs.queues SET paused_at = now() WHERE name = 'default'")
        .await;
    let waiting = app.add(Script::note("waiting").row()).await;
    app.ledger.open("held");
    app.until_state(held, "completed").await;
    assert_eq!(app.job(waiting).await.attempt, 0);
    app.execute("UPDATE polar_jobs.queues SET paused_at = NULL")
        .await;
    app.until_state(waiting, "completed").await;
    worker.stop().await;
}

#[tokio::test]
async fn slots_of_queues_and_of_the_process_are_never_exceeded() {
    let app = TestApp::new().await;
    let mut settings = app.settings(6).await;
    settings.queues = [("default", 5), ("mail", 2), ("bulk", 6)]
        .map(|(queue, slots)| QueueSlots {
            queue: queue.to_owned(),
            slots,
        })
        .to_vec();
    let queues = [
        ("d", Queue::Default),
        ("m", Queue::Mail),
        ("b", Queue::Bulk),
    ];
    let all: Vec<_> = (0..240)
        .map(|n| {
            let (label, queue) = queues[n % 3];
            let end = [
                Act::Done,
                Act::Fail("x".into()),
                Act::Snooze(600.0),
                Act::Write(format!("{n}")),
                Act::Panic("p".into()),
            ];
            Script::new(label, [vec![Act::Work(3), end[n % 5].clone()]]).row_in(queue)
        })
        .collect();
    app.add_all(&all).await;
    let worker = Worker::start(settings);
    app.until_number(
        "SELECT count(*) FROM polar_jobs.jobs WHERE attempt >= 1 AND state <> 'running'",
        240,
    )
    .await;
    assert!(most_at_once(&app.ledger, |_| true) <= 6);
    assert!(most_at_once(&app.ledger, |label| label == "d") <= 5);
    assert!(most_at_once(&app.ledger, |label| label == "m") <= 2);
    // Whatever the endings were, every slot came back.
    for slot in 0..5 {
        app.add(Script::hold(&format!("slot {slot}")).row()).await;
    }
    for slot in 0..5 {
        app.ledger
            .reached(Mark::Started, &format!("slot {slot}"), 1)
            .await;
        app.ledger.open(&format!("slot {slot}"));
    }
    app.until_number(
        "SELECT count(*) FROM polar_jobs.live_jobs WHERE worker IS NOT NULL",
        0,
    )
    .await;
    worker.stop().await;
}

#[tokio::test]
async fn a_long_backlog_of_one_queue_does_not_starve_another() {
    let app = TestApp::new().await;
    let mut settings = app.settings(4).await;
    settings.queues = ["default", "bulk"]
        .map(|queue| QueueSlots {
            queue: queue.to_owned(),
            slots: 4,
        })
        .to_vec();
    let backlog: Vec<_> = (0..2000)
        .map(|_| Script::new("bulk", [vec![Act::Work(5)]]).row_in(Queue::Bulk))
        .collect();
    app.add_all(&backlog).await;
    let worker = Worker::start(settings);
    app.ledger.reached(Mark::Started, "bulk", 20).await;
    let id = app.add(Script::note("urgent").row()).await;
    app.until_state(id, "completed").await;
    let before = app.ledger.count(Mark::Ended, "bulk");
    assert!(before < 1500, "{before} of 2000 bulk jobs went first");
    worker.stop().await;
}

#[tokio::test]
async fn a_job_deleted_under_its_runner_is_forgotten_with_its_slot() {
    let app = TestApp::new().await;
    let worker = app.work(1).await;
    let id = app.add(Script::hold("held").row()).await;
    app.ledger.reached(Mark::Started, "held", 1).await;
    app.execute("DELETE FROM polar_jobs.live_jobs").await;
    app.ledger.open("held");
    let next = app.add(Script::note("next").row()).await;
    app.until_state(next, "completed").await;
    assert!(app.find(id).await.is_none());
    worker.stop().await;
}

#[tokio::test]
async fn drain_ends_when_nothing_is_runnable_follow_ups_included() {
    for _ in 0..5 {
        let app = TestApp::new().await;
        let mut settings = app.settings(4).await;
        settings.drain = true;
        settings.queues = ["default", "mail"]
            .map(|queue| QueueSlots {
                queue: queue.to_owned(),
                slots: 4,
            })
            .to_vec();
        let follow = Script::new(
            "2",
            [vec![
                Act::Work(30),
                Act::Follow(vec![
                    Script::note("3").ordered("k"),
                    Script::note("4").ordered("k"),
                ]),
            ]],
        );
        app.add(
            Script::new("1", [vec![Act::Work(30), Act::Follow(vec![follow])]]).row_in(Queue::Mail),
        )
        .await;
        let later = app
            .add(
                Script::note("later")
                    .row()
                    .at(Utc::now() + Duration::hours(1)),
            )
            .await;
        Worker::start(settings).end().await.unwrap();
        assert_eq!(app.ledger.labels(Mark::Ended), ["1", "2", "3", "4"]);
        assert_eq!(app.job(later).await.state, "available");
    }
}
