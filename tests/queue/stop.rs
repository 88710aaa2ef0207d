//! A stop loses nothing, charges nothing, and ends.

use std::time::Duration;

use crate::ledger::Mark;
use crate::script::{Act, Script};
use crate::test_app::{TestApp, Worker};

const ROWS: &str = "SELECT count(*) FROM polar_jobs.workers";

#[tokio::test]
async fn a_stopping_worker_finishes_what_runs_and_claims_nothing_more() {
    let app = TestApp::new().await;
    let mut worker = app.work(2).await;
    let acts = vec![
        Act::Hold("go".into()),
        Act::Write("kept".into()),
        Act::Follow(vec![Script::note("next")]),
    ];
    let held = app.add(Script::new("held", [acts]).row()).await;
    app.ledger.reached(Mark::Started, "held", 1).await;
    worker.ask_to_stop();
    worker.until_stopping().await;
    let waiting = app.add(Script::note("waiting").row()).await;
    assert!(!worker.is_over());
    app.ledger.open("go");
    worker.end().await.unwrap();
    assert_eq!(app.job(held).await.state, "completed");
    assert_eq!(app.job(waiting).await.attempt, 0);
    assert_eq!(
        app.number("SELECT count(*) FROM polar_jobs.jobs WHERE state = 'available'")
            .await,
        2
    );
    assert_eq!(app.number(ROWS).await, 0, "its row is gone");
}

#[tokio::test]
async fn what_still_runs_after_the_drain_timeout_is_handed_back_and_runs_elsewhere_at_once() {
    let app = TestApp::new().await;
    let mut settings = app.settings(4).await;
    settings.drain_timeout = Duration::from_millis(100);
    let mut worker = Worker::start(settings);
    let within = Script::new(
        "within",
        [vec![Act::Write("half".into()), Act::Hang], vec![]],
    );
    let jobs = [
        Script::new("hangs", [vec![Act::Hang], vec![]])
            .ordered("k")
            .row(),
        Script::note("after").ordered("k").row(),
        within.row(),
    ];
    let ids = app.add_all(&jobs).await;
    app.ledger.reached(Mark::Started, "hangs", 1).await;
    app.ledger.reached(Mark::Started, "within", 1).await;
    worker.ask_to_stop();
    worker.end().await.unwrap();
    assert_eq!(app.number(ROWS).await, 0);
    for id in [ids[0], ids[2]] {
        let row = app.job(id.unwrap()).await;
        assert_eq!(
            (row.state.as_str(), row.attempt, row.failures()),
            ("available", 1, 0)
        );
        assert!(row.wait <= 0.0, "due at once");
        assert_eq!(row.note.as_deref(), Some("requeued by a stopping worker"));
    }
    let other = app.work(4).await;
    app.until_empty().await;
    assert_eq!(app.ledger.labels(Mark::Ended).len(), 3);
    assert_eq!(
        app.number("SELECT count(*) FROM polar_jobs.schedule_ticks")
            .await,
        0
    );
    other.stop().await;
}

#[tokio::test]
async fn a_busy_worker_stops_without_losing_a_job() {
    let app = TestApp::new().await;
    let jobs: Vec<_> = (0..3000)
        .map(|n| {
            Script::new(
                "n",
                if n % 7 == 0 {
                    vec![vec![Act::Write(n.to_string())]]
                } else {
                    vec![]
                },
            )
            .row()
        })
        .collect();
    app.add_all(&jobs).await;
    for round in 1..=5 {
        let worker = app.work(40).await;
        app.ledger.reached(Mark::Ended, "n", round * 100).await;
        worker.stop().await;
        let left =
            "SELECT count(*) FROM polar_jobs.live_jobs WHERE worker IS NOT NULL OR errors <> '[]'";
        assert_eq!(app.number(left).await, 0);
    }
    let worker = app.work(40).await;
    app.until_empty().await;
    // What was claimed ahead and handed back was claimed again, uncharged.
    let completed =
        "SELECT count(*) FROM polar_jobs.jobs WHERE state = 'completed' AND errors = '[]'";
    assert_eq!(app.number(completed).await, 3000);
    assert_eq!(app.ledger.count(Mark::Ended, "n"), 3000, "each ran once");
    worker.stop().await;
}

#[tokio::test]
async fn a_drain_ends_after_a_job_without_keys_that_is_discarded_late() {
    let app = TestApp::new().await;
    let acts = vec![Act::Hold("go".into()), Act::Discard("no".into())];
    let id = app.add(Script::new("late", [acts]).row()).await;
    let mut settings = app.settings(2).await;
    settings.drain = true;
    let mut worker = Worker::start(settings);
    app.ledger.reached(Mark::Started, "late", 1).await;
    // It has looked for more jobs, and found none.
    app.until_asleep().await;
    app.ledger.open("go");
    worker.end().await.unwrap();
    assert_eq!(app.job(id).await.state, "discarded");
}
