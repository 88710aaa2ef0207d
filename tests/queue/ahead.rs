//! Short jobs are claimed ahead, beyond the slots, so that one commit serves many; that must never show
//! but in the speed.

use crate::ledger::Mark;
use crate::script::Script;
use crate::test_app::TestApp;

#[tokio::test]
async fn what_was_claimed_ahead_of_slow_jobs_runs_elsewhere_while_they_still_run() {
    let app = TestApp::new().await;
    let short = (0..2000).map(|_| Script::note("short").row());
    let slow = (0..100).map(|_| Script::hold("slow").row());
    app.add_all(&short.chain(slow).collect::<Vec<_>>()).await;
    let held_up = app.work(2).await;
    app.ledger.reached(Mark::Started, "slow", 2).await;
    let free = app.work(200).await;
    app.ledger.reached(Mark::Started, "slow", 100).await;
    app.ledger.open("slow");
    app.until_empty().await;
    assert_eq!(
        app.ledger.count(Mark::Ended, "short"),
        2000,
        "each ran once"
    );
    assert_eq!(app.ledger.count(Mark::Ended, "slow"), 100, "each ran once");
    let charged =
        "SELECT count(*) FROM polar_jobs.jobs WHERE errors <> '[]' OR state <> 'completed'";
    assert_eq!(app.number(charged).await, 0);
    held_up.stop().await;
    free.stop().await;
}

#[tokio::test]
async fn never_more_jobs_run_at_once_than_there_are_slots() {
    let app = TestApp::new().await;
    let jobs: Vec<_> = (0..3000)
        .map(|n| match n % 100 {
            99 => Script::hold("slow").row(),
            _ => Script::note("short").row(),
        })
        .collect();
    app.add_all(&jobs).await;
    let worker = app.work(5).await;
    app.ledger.reached(Mark::Started, "slow", 5).await;
    // All slots are taken: what was claimed ahead goes back, and nothing more is claimed.
    let running = "SELECT count(*) FROM polar_jobs.jobs WHERE state = 'running'";
    app.until_number(running, 5).await;
    assert_eq!(app.ledger.count(Mark::Started, "slow"), 5);
    app.ledger.open("slow");
    app.until_empty().await;
    assert_eq!(app.ledger.count(Mark::Ended, "slow"), 30);
    worker.stop().await;
}
