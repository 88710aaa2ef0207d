//! A stop loses nothing, charges nothing, and ends.

use std::time::Duration;

use crate::ledger::Mark;
use crate::script::{Act, Script};
use crate::stand::{Stand, Worker};

const ROWS: &str = "SELECT count(*) FROM polar_jobs.workers";

#[tokio::test]
async fn a_stopping_worker_finishes_what_runs_and_claims_nothing_more() {
    let stand = Stand::new().await;
    let mut worker = stand.work(2).await;
    let acts = vec![
        Act::Hold("go".into()),
        Act::Write("kept".into()),
        Act::Follow(vec![Script::note("next")]),
    ];
    let held = stand.add(Script::new("held", [acts]).row()).await;
    stand.ledger.reached(Mark::Started, "held", 1).await;
    worker.ask_to_stop();
    worker.until_stopping().await;
    let waiting = stand.add(Script::note("waiting").row()).await;
    assert!(!worker.is_over());
    stand.ledger.open("go");
    worker.end().await.unwrap();
    assert_eq!(stand.job(held).await.state, "completed");
    assert_eq!(stand.job(waiting).await.attempt, 0);
    assert_eq!(
        stand
            .number("SELECT count(*) FROM polar_jobs.jobs WHERE state = 'available'")
            .await,
        2
    );
    assert_eq!(stand.number(ROWS).await, 0, "its row is gone");
}

#[tokio::test]
async fn what_still_runs_after_the_drain_timeout_is_handed_back_and_runs_elsewhere_at_once() {
    let stand = Stand::new().await;
    let mut settings = stand.settings(4).await;
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
    let ids = stand.add_all(&jobs).await;
    stand.ledger.reached(Mark::Started, "hangs", 1).await;
    stand.ledger.reached(Mark::Started, "within", 1).await;
    worker.ask_to_stop();
    worker.end().await.unwrap();
    assert_eq!(stand.number(ROWS).await, 0);
    for id in [ids[0], ids[2]] {
        let row = stand.job(id.unwrap()).await;
        assert_eq!(
            (row.state.as_str(), row.attempt, row.failures()),
            ("available", 1, 0)
        );
        assert!(row.wait <= 0.0, "due at once");
        assert_eq!(
            row.note.as_deref(),
            Some("handed back by a stopping worker")
        );
    }
    let other = stand.work(4).await;
    stand.until_empty().await;
    assert_eq!(stand.ledger.labels(Mark::Ended).len(), 3);
    assert_eq!(
        stand
            .number("SELECT count(*) FROM polar_jobs.schedule_ticks")
            .await,
        0
    );
    other.stop().await;
}

#[tokio::test]
async fn a_busy_worker_stops_without_losing_a_job() {
    let stand = Stand::new().await;
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
    stand.add_all(&jobs).await;
    for round in 1..=5 {
        let worker = stand.work(40).await;
        stand.ledger.reached(Mark::Ended, "n", round * 100).await;
        worker.stop().await;
        let left =
            "SELECT count(*) FROM polar_jobs.live_jobs WHERE worker IS NOT NULL OR errors <> '[]'";
        assert_eq!(stand.number(left).await, 0);
    }
    let worker = stand.work(40).await;
    stand.until_empty().await;
    // What was claimed ahead and handed back was claimed again, uncharged.
    let completed =
        "SELECT count(*) FROM polar_jobs.jobs WHERE state = 'completed' AND errors = '[]'";
    assert_eq!(stand.number(completed).await, 3000);
    assert_eq!(stand.ledger.count(Mark::Ended, "n"), 3000, "each ran once");
    worker.stop().await;
}
