//! Connections are cut, one after the other; the worker goes on.

use std::sync::Arc;

use polar_jobs::worker::QueueSlots;

use crate::ledger::Mark;
use crate::proxy::Proxy;
use crate::script::{Act, Script};
use crate::test_app::{TestApp, Worker, eventually_some, settings};

#[tokio::test]
async fn every_connection_of_a_worker_may_be_cut_while_jobs_run() {
    let app = Arc::new(TestApp::new().await);
    let names = ["lease", "fetcher", "housekeeping", "jobs"];
    let mut settings = app.settings(20).await;
    settings.pool = {
        let options = (*app.pool.connect_options())
            .clone()
            .application_name("polar-jobs jobs");
        sqlx::postgres::PgPoolOptions::new()
            .max_connections(5)
            .connect_with(options)
            .await
            .unwrap()
    };
    let worker = Worker::start(settings);
    let jobs: Vec<_> = (0..4000)
        .map(|n| {
            let acts = if n % 10 == 0 {
                vec![Act::Work(2), Act::Write(n.to_string())]
            } else {
                vec![Act::Work(2)]
            };
            let script = Script::new(&n.to_string(), [acts]);
            if n % 10 == 5 {
                script.ordered("key").row()
            } else {
                script.row()
            }
        })
        .collect();
    app.add_all(&jobs).await;
    for round in 0..5 {
        for name in names {
            let before = app.ledger.entries().len();
            app.execute(&format!(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                      WHERE datname = current_database() AND application_name = 'polar-jobs {name}'"
                ))
            .await;
            app.ledger
                .until(
                    &format!("jobs go on after {name} was cut ({round})"),
                    |ledger| {
                        ledger.entries().len() > before + 20
                            || ledger.labels(Mark::Ended).len() >= 4000
                    },
                )
                .await;
        }
    }
    // Nobody fails for good: what the cut hit is tried again, and made due here instead of waited for.
    eventually_some("everything is done", || async {
        app.execute("UPDATE polar_jobs.live_jobs SET run_at = now() WHERE worker IS NULL AND run_at > now()").await;
        let left = app.number("SELECT count(*) FROM polar_jobs.live_jobs").await;
        if left == 0 { Ok(()) } else { Err(left.to_string()) }
    })
    .await;
    assert!(!worker.is_over(), "the worker itself lived on");
    assert_eq!(
        app.number("SELECT count(*) FROM polar_jobs.workers").await,
        1,
        "and was not taken for dead"
    );
    assert_eq!(
        app.number("SELECT count(*) FROM polar_jobs.jobs WHERE state = 'completed'")
            .await,
        4000
    );
    assert_eq!(
        app.number("SELECT count(DISTINCT schedule) FROM polar_jobs.schedule_ticks")
            .await,
        400
    );
    let ended = app.ledger.labels(Mark::Ended);
    for n in (0..4000).filter(|n| n % 10 != 0) {
        assert_eq!(
            ended
                .iter()
                .filter(|label| **label == n.to_string())
                .count(),
            1,
            "{n} needs no connection of its own"
        );
    }
    worker.stop().await;
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_handed_back() {
    let app = TestApp::new().await;
    let proxy = Proxy::before(&app.pool).await;
    let worker = Worker::start(settings(&proxy.url, 4).await);
    app.until_asleep().await;
    for round in 0..3 {
        proxy.lose_claims(1);
        let id = app.add(Script::note(&format!("lost {round}")).row()).await;
        let row = app.until_state(id, "completed").await;
        assert_eq!(proxy.claims_to_lose(), 0, "the wire was cut");
        assert_eq!(
            (row.attempt, row.failures()),
            (2, 0),
            "claimed twice, charged nothing"
        );
        assert_eq!(app.ledger.count(Mark::Started, &format!("lost {round}")), 1);
    }
    worker.stop().await;
}

#[tokio::test]
async fn a_job_claimed_again_in_the_turn_that_put_it_back_is_not_handed_back_while_it_runs() {
    let app = TestApp::new().await;
    let script = Script::new(
        "again",
        [vec![Act::Snooze(0.0)], vec![Act::Hold("again".into())]],
    );
    // Both slots are taken, so the turn that puts the one back looks for more and finds it.
    let ids = app
        .add_all(&[script.row(), Script::hold("beside").row()])
        .await;
    let id = ids[0].unwrap();
    let worker = app.work(2).await;
    app.ledger.reached(Mark::Started, "again", 2).await;
    app.ledger.open("beside");
    app.until_state(ids[1].unwrap(), "completed").await;
    for _ in 0..3 {
        let fetcher = app.session("polar-jobs fetcher").await;
        app.execute(&format!("SELECT pg_terminate_backend({fetcher})"))
            .await;
        let other = app.add(Script::note("other").row()).await;
        app.until_state(other, "completed").await;
    }
    let row = app.job(id).await;
    assert_eq!((row.state.as_str(), row.attempt), ("running", 2));
    app.ledger.open("again");
    app.until_state(id, "completed").await;
    assert_eq!(app.ledger.count(Mark::Started, "again"), 2);
    worker.stop().await;
}

/// Whoever lost one on the second connection tries again on the first, and perhaps nobody needs the second for hours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_was_lost_on_the_second_connection_is_handed_back_although_nobody_needs_that()
{
    let app = TestApp::new().await;
    let proxy = Proxy::before(&app.pool).await;
    let mut settings = settings(&proxy.url, 4).await;
    settings.slots = 8;
    settings.queues.push(QueueSlots {
        queue: "app".to_owned(),
        slots: 4,
    });
    let worker = Worker::start(settings);
    let idle = "SELECT count(*) FROM unnest(ARRAY['default', 'app']) queue WHERE polar_jobs.anyone_is_idle(queue)";
    app.until_number(idle, 2).await;
    // The other queue holds the first connection: its claim waits for this row.
    let mut first = app.pool.begin().await.unwrap();
    let held = "SELECT turn FROM polar_jobs.claims WHERE fetcher = 0 FOR UPDATE";
    sqlx::query(held).execute(&mut *first).await.unwrap();
    app.execute("INSERT INTO polar_jobs.live_jobs (kind, queue) VALUES ('unknown', 'app')")
        .await;
    app.until_somebody_waits().await;
    proxy.lose_claims(1);
    let id = app.add(Script::note("lost").row()).await;
    eventually_some("its claim is lost", || async {
        match proxy.claims_to_lose() {
            0 => Ok(()),
            left => Err(left.to_string()),
        }
    })
    .await;
    first.commit().await.unwrap();
    let row = app.until_state(id, "completed").await;
    assert_eq!((row.attempt, row.failures()), (2, 0));
    worker.stop().await;
}
