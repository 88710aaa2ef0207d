//! Connections are cut, one after the other; the worker goes on.

use std::sync::Arc;

use crate::ledger::Mark;
use crate::proxy::Proxy;
use crate::script::{Act, Script};
use crate::stand::{Stand, Worker, eventually, settings};

#[tokio::test]
async fn every_connection_of_a_worker_may_be_cut_while_jobs_run() {
    let stand = Arc::new(Stand::new().await);
    let names = ["lease", "fetcher", "housekeeping", "jobs"];
    let mut settings = stand.settings(20).await;
    settings.pool = {
        let options = (*stand.pool.connect_options())
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
    stand.add_all(&jobs).await;
    for round in 0..5 {
        for name in names {
            let before = stand.ledger.entries().len();
            stand
                .execute(&format!(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                      WHERE datname = current_database() AND application_name = 'polar-jobs {name}'"
                ))
                .await;
            stand
                .ledger
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
    eventually("everything is done", || async {
        stand.execute("UPDATE polar_jobs.live_jobs SET run_at = now() WHERE worker IS NULL AND run_at > now()").await;
        let left = stand.number("SELECT count(*) FROM polar_jobs.live_jobs").await;
        if left == 0 { Ok(()) } else { Err(left.to_string()) }
    })
    .await;
    assert!(!worker.is_over(), "the worker itself lived on");
    assert_eq!(
        stand
            .number("SELECT count(*) FROM polar_jobs.workers")
            .await,
        1,
        "and was not taken for dead"
    );
    assert_eq!(
        stand
            .number("SELECT count(*) FROM polar_jobs.jobs WHERE state = 'completed'")
            .await,
        4000
    );
    assert_eq!(
        stand
            .number("SELECT count(DISTINCT schedule) FROM polar_jobs.schedule_ticks")
            .await,
        400
    );
    let ended = stand.ledger.labels(Mark::Ended);
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
    let stand = Stand::new().await;
    let proxy = Proxy::before(&stand.pool).await;
    let worker = Worker::start(settings(&proxy.url, 4).await);
    stand.until_asleep().await;
    for round in 0..3 {
        proxy.lose_claims(1);
        let id = stand
            .add(Script::note(&format!("lost {round}")).row())
            .await;
        let row = stand.until_state(id, "completed").await;
        assert_eq!(proxy.claims_to_lose(), 0, "the wire was cut");
        assert_eq!(
            (row.attempt, row.failures()),
            (2, 0),
            "claimed twice, charged nothing"
        );
        assert_eq!(
            stand.ledger.count(Mark::Started, &format!("lost {round}")),
            1
        );
    }
    worker.stop().await;
}

#[tokio::test]
async fn a_job_claimed_again_in_the_turn_that_put_it_back_is_not_handed_back_while_it_runs() {
    let stand = Stand::new().await;
    let script = Script::new(
        "again",
        [vec![Act::Snooze(0.0)], vec![Act::Hold("again".into())]],
    );
    // Both slots are taken, so the turn that puts the one back looks for more and finds it.
    let ids = stand
        .add_all(&[script.row(), Script::hold("beside").row()])
        .await;
    let id = ids[0].unwrap();
    let worker = stand.work(2).await;
    stand.ledger.reached(Mark::Started, "again", 2).await;
    stand.ledger.open("beside");
    stand.until_state(ids[1].unwrap(), "completed").await;
    for _ in 0..3 {
        let fetcher = stand.session("polar-jobs fetcher").await;
        stand
            .execute(&format!("SELECT pg_terminate_backend({fetcher})"))
            .await;
        let other = stand.add(Script::note("other").row()).await;
        stand.until_state(other, "completed").await;
    }
    let row = stand.job(id).await;
    assert_eq!((row.state.as_str(), row.attempt), ("running", 2));
    stand.ledger.open("again");
    stand.until_state(id, "completed").await;
    assert_eq!(stand.ledger.count(Mark::Started, "again"), 2);
    worker.stop().await;
}
