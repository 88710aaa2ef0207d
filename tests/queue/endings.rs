//! Every attempt has one end, and every job a final state.

use std::time::Duration;

use jobs::NewJob;
use polar_jobs::queue::ctid::Ctid;
use polar_jobs::queue::finish::{self, Completion, Requeue, RequeueReason};

use crate::ledger::Mark;
use crate::script::{Act, Brief, Script};
use crate::test_app::{Row, TestApp, complete_and_claim, completion, register};

async fn run_once(script: Script) -> (TestApp, Row) {
    let app = TestApp::new().await;
    let worker = app.work(4).await;
    let id = app.add(script.row()).await;
    app.ledger.reached(Mark::Started, &script.label, 1).await;
    let row = crate::test_app::eventually_some("the attempt is stored", || async {
        let row = app.job(id).await;
        if row.state == "running" || row.attempt == 0 {
            Err(format!("{row:?}"))
        } else {
            Ok(row)
        }
    })
    .await;
    worker.stop().await;
    (app, row)
}

#[tokio::test]
async fn a_job_that_is_done_is_completed() {
    let (_, row) = run_once(Script::note("n")).await;
    assert_eq!(
        (row.state.as_str(), row.attempt, row.failures()),
        ("completed", 1, 0)
    );
    assert_eq!(row.outcome.as_deref(), Some("applied"));
}

/// What a job puts off is put off from there, and a host's own clock may be wrong.
#[tokio::test]
async fn a_job_is_told_by_the_clock_of_postgres_when_its_attempt_began() {
    let (app, job) = run_once(Script::new("began", [vec![Act::Began]])).await;
    let row = "SELECT count(*) FROM polar_jobs.jobs WHERE note::timestamptz = started_at";
    assert_eq!(app.number(row).await, 1, "{job:?}");
}

#[tokio::test]
async fn a_job_enqueued_in_sql_takes_its_kinds_defaults_and_runs() {
    let app = TestApp::new().await;
    let worker = app.work(4).await;
    app.until_asleep().await;
    let id = app
        .number(r#"SELECT polar_jobs.enqueue('trial', '{"label": "sql"}', unique_key => 'u', ordering_key => 'o')"#)
        .await;
    assert_eq!(
        app.until_state(id, "completed").await.unique_key.as_deref(),
        Some("u")
    );
    worker.stop().await;
}

#[tokio::test]
async fn a_failure_is_kept_and_waits_longer_each_time() {
    let script = Script::new("f", [vec![Act::Fail("no luck".into())]]);
    let (app, mut row) = run_once(script).await;
    let mut waits = vec![row.wait];
    let worker = app.work(4).await;
    for attempt in 2..=6 {
        app.due_now(row.id).await;
        row = app.until_returned(row.id, attempt).await;
        waits.push(row.wait);
    }
    assert_eq!(row.failures(), 6);
    assert_eq!(row.last_error(), "no luck");
    assert_eq!(row.errors[5]["attempt"], 6);
    assert!(row.errors[0]["at"].is_string());
    // 2 s doubling, each with half of it left to chance, less what passed since it was stored.
    for (failures, wait) in waits.iter().enumerate() {
        let bound = 2.0 * f64::from(1 << failures);
        assert!(*wait <= bound && *wait > bound / 2.0 - 5.0, "{waits:?}");
    }
    assert!(waits[5] > 20.0, "{waits:?}");
    worker.stop().await;
}

#[tokio::test]
async fn a_spent_budget_discards_with_every_failure_kept() {
    let mut job = Script::new(
        "f",
        [
            vec![Act::Fail("one".into())],
            vec![Act::Snooze(0.0)],
            vec![Act::Fail("two".into())],
        ],
    )
    .row();
    job.max_attempts = 2;
    let app = TestApp::new().await;
    let worker = app.work(4).await;
    let id = app.add(job).await;
    app.until_returned(id, 1).await;
    app.due_now(id).await;
    let row = app.until_state(id, "discarded").await;
    assert_eq!(
        (row.attempt, row.failures()),
        (3, 2),
        "a snooze uses no budget"
    );
    assert_eq!(
        (&row.errors[0]["error"], &row.errors[1]["error"]),
        (&"one".into(), &"two".into())
    );
    assert_eq!(row.outcome.as_deref(), Some("failed"));
    worker.stop().await;
}

#[tokio::test]
async fn a_snooze_waits_with_its_reason_and_no_failure() {
    let (_, row) = run_once(Script::new("s", [vec![Act::Snooze(600.0)]])).await;
    assert_eq!((row.state.as_str(), row.failures()), ("available", 0));
    assert_eq!(row.note.as_deref(), Some("not there yet: snoozed"));
    assert!(row.wait > 500.0 && row.wait <= 600.0, "{row:?}");
}

#[tokio::test]
async fn an_endless_snooze_does_not_stop_the_fetcher() {
    let (app, row) = run_once(Script::new("s", [vec![Act::Snooze(1e18)]])).await;
    assert_eq!(row.state, "available");
    let worker = app.work(4).await;
    let next = app.add(Script::note("next").row()).await;
    app.until_state(next, "completed").await;
    worker.stop().await;
}

#[tokio::test]
async fn a_panic_is_a_failure_and_the_others_go_on() {
    let app = TestApp::new().await;
    let held = app.add(Script::hold("held").row()).await;
    let worker = app.work(4).await;
    app.ledger.reached(Mark::Started, "held", 1).await;
    let id = app
        .add(Script::new("p", [vec![Act::Panic("polar_secret oh".into())]]).row())
        .await;
    let row = app.until_returned(id, 1).await;
    assert_eq!(
        row.last_error(),
        "panicked: *** oh",
        "masked like every reason"
    );
    app.ledger.open("held");
    app.until_state(held, "completed").await;
    worker.stop().await;
}

#[tokio::test]
async fn a_job_that_panics_when_it_is_cancelled_took_too_long_like_any_other() {
    let app = TestApp::new().await;
    let worker = app.work(4).await;
    let script = Script::new("panics", [vec![Act::HangAndPanic]]);
    let id = app.add(NewJob::of(&Brief { script })).await;
    let row = app.until_state(id, "discarded").await;
    assert_eq!(
        (row.failures(), row.last_error()),
        (3, "took longer than 0.3 s and was cancelled")
    );
    worker.stop().await;
}

#[tokio::test]
async fn every_stored_reason_is_masked() {
    for (act, state) in [
        (Act::Fail("polar_secret".into()), "available"),
        (Act::Discard("polar_secret".into()), "discarded"),
        (Act::Ignored("polar_secret".into()), "completed"),
    ] {
        let (_, row) = run_once(Script::new("m", [vec![act]])).await;
        assert_eq!(row.state, state);
        let stored = format!("{} {:?}", row.errors, row.note);
        assert!(
            stored.contains("***") && !stored.contains("polar_secret"),
            "{stored}"
        );
    }
}

#[tokio::test]
async fn a_reason_that_postgres_cannot_store_stops_nobody() {
    for (how, state) in [
        ("fail", "available"),
        ("discard", "discarded"),
        ("ignored", "completed"),
        ("panic", "available"),
    ] {
        let (_, row) = run_once(Script::new("z", [vec![Act::Nul(how.to_owned())]])).await;
        assert_eq!(row.state, state);
    }
}

#[tokio::test]
async fn what_can_never_succeed_is_discarded_at_once_with_its_reason() {
    let (_, row) = run_once(Script::new(
        "d",
        [vec![Act::Discard("wrong for ever".into())]],
    ))
    .await;
    assert_eq!(
        (row.state.as_str(), row.attempt, row.last_error()),
        ("discarded", 1, "wrong for ever")
    );
}

#[tokio::test]
async fn an_unknown_kind_waits_for_the_release_that_knows_it() {
    let app = TestApp::new().await;
    let worker = app.work(4).await;
    let id = app
        .number("SELECT polar_jobs.enqueue('of_the_next_release')")
        .await;
    let row = app.until_returned(id, 1).await;
    assert_eq!(row.failures(), 0, "no attempt is charged: {row:?}");
    assert!(row.wait > 20.0, "it does not come back at once: {row:?}");
    let note = row.note.unwrap();
    assert!(
        note.starts_with("no job kind \"of_the_next_release\" is known"),
        "{note}"
    );
    worker.stop().await;
}

#[tokio::test]
async fn an_undecodable_payload_discards_one_job_and_no_other() {
    let app = TestApp::new().await;
    let bad = app
        .number(r#"SELECT polar_jobs.enqueue('trial', '{"label": 7}')"#)
        .await;
    let good: Vec<_> = app
        .add_all(&[Script::note("a").row(), Script::note("b").row()])
        .await;
    let worker = app.work(4).await;
    let row = app.until_state(bad, "discarded").await;
    assert!(
        row.last_error()
            .starts_with("the payload is not one of trial: "),
        "{}",
        row.last_error()
    );
    for id in good {
        app.until_state(id.unwrap(), "completed").await;
    }
    worker.stop().await;
}

#[tokio::test]
async fn an_attempt_beyond_its_time_is_cancelled_and_fails() {
    let app = TestApp::new().await;
    let worker = app.work(4).await;
    let script = Script::new(
        "slow",
        [
            vec![Act::Write("lost".into()), Act::Hang],
            vec![Act::Write("kept".into())],
        ],
    );
    let id = app.add(NewJob::of(&Brief { script })).await;
    let row = app.until_state(id, "completed").await;
    assert_eq!((row.attempt, row.failures()), (2, 1));
    assert_eq!(app.ledger.count(Mark::Dropped, "slow"), 1);
    let kept = "SELECT count(*) FROM polar_jobs.schedule_ticks WHERE schedule = ";
    assert_eq!(app.number(&format!("{kept} 'kept'")).await, 1);
    assert_eq!(app.number(&format!("{kept} 'lost'")).await, 0);
    // The cancelled attempt's transaction is gone from the pool.
    let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'";
    app.until_number(open, 0).await;
    worker.stop().await;
}

#[tokio::test]
async fn attempts_cancelled_within_a_statement_do_not_use_up_the_pool() {
    let app = TestApp::new().await;
    let worker = app.work(20).await;
    let script = Script::new("deaf", [vec![Act::SlowStatement(2.0)], vec![Act::Done]]);
    let jobs: Vec<_> = (0..20)
        .map(|_| {
            NewJob::of(&Brief {
                script: script.clone(),
            })
        })
        .collect();
    let ids = app.add_all(&jobs).await;
    for id in ids {
        assert_eq!(
            app.until_state(id.unwrap(), "completed").await.failures(),
            1
        );
    }
    let after = app
        .add(Script::new("after", [vec![Act::Write("after".into())]]).row())
        .await;
    app.until_state(after, "completed").await;
    worker.stop().await;
}

#[tokio::test]
async fn follow_ups_and_writes_are_committed_with_the_completion() {
    let app = TestApp::new().await;
    let worker = app.work(4).await;
    let acts = vec![
        Act::Write("kept".into()),
        Act::Follow(vec![
            Script::note("next").ordered("k"),
            Script::note("more"),
        ]),
    ];
    let id = app.add(Script::new("first", [acts]).row()).await;
    app.ledger.reached(Mark::Ended, "next", 1).await;
    app.ledger.reached(Mark::Ended, "more", 1).await;
    assert_eq!(app.job(id).await.state, "completed");
    assert_eq!(
        app.number("SELECT count(*) FROM polar_jobs.schedule_ticks WHERE schedule = 'kept'")
            .await,
        1
    );
    worker.stop().await;
}

#[tokio::test]
async fn nothing_is_committed_by_a_finisher_whose_lease_was_taken_over() {
    for within in [false, true] {
        let app = TestApp::new().await;
        let worker = app.work(4).await;
        let mut acts = vec![Act::Hold("late".into())];
        if within {
            acts.extend([
                Act::Write("late".into()),
                Act::Follow(vec![Script::note("follow")]),
            ]);
        }
        let id = app
            .add(Script::new("late", [acts, vec![Act::Hold("again".into())]]).row())
            .await;
        app.ledger.reached(Mark::Started, "late", 1).await;
        // What a rescue does to a worker taken for dead; the row in `workers` stays, so it goes on.
        let dead = app.job(id).await.worker.unwrap();
        app.execute(&format!("SELECT polar_jobs.requeue_jobs_of({dead})"))
            .await;
        app.ledger.reached(Mark::Started, "late", 2).await;
        app.ledger.open("late");
        app.ledger.reached(Mark::Ended, "late", 1).await;
        let other = app.add(Script::note("other").row()).await;
        app.until_state(other, "completed").await;
        let row = app.job(id).await;
        assert_eq!(
            (row.state.as_str(), row.attempt, row.failures()),
            ("running", 2, 1)
        );
        app.ledger.open("again");
        app.until_state(id, "completed").await;
        assert_eq!(app.ledger.count(Mark::Started, "follow"), 0);
        assert_eq!(
            app.number("SELECT count(*) FROM polar_jobs.schedule_ticks")
                .await,
            0
        );
        worker.stop().await;
    }
}

#[tokio::test]
async fn every_way_to_end_is_fenced_by_attempt_and_worker() {
    let app = TestApp::new().await;
    let id = app.add(Script::note("n").row()).await;
    app.execute("UPDATE polar_jobs.live_jobs SET worker = 7, attempt = 3")
        .await;
    let mut connection = app.connect().await;
    let there: Ctid = sqlx::query_scalar("SELECT ctid FROM polar_jobs.live_jobs")
        .fetch_one(&app.pool)
        .await
        .unwrap();
    for (worker, attempt) in [(7, 2), (7, 4), (8, 3)] {
        let requeue = Requeue {
            id,
            attempt,
            delay: Duration::ZERO,
            reason: RequeueReason::Failed("x".into()),
        };
        finish::requeue(&mut connection, worker, &[requeue])
            .await
            .unwrap();
        let gone = finish::Discard {
            id,
            attempt,
            reason: "x".into(),
        };
        finish::discard(&mut connection, worker, &[gone])
            .await
            .unwrap();
        let done = |ctid| Completion {
            id,
            attempt,
            ctid,
            ignored: None,
        };
        for ctid in [there, Ctid::default()] {
            complete_and_claim(&mut connection, worker, &[done(ctid)], 0)
                .await
                .unwrap();
        }
        let transaction = app.pool.begin().await.unwrap();
        let follow = [Script::note("follow").row()];
        assert!(
            !finish::complete_with(transaction, worker, &done(there), &follow)
                .await
                .unwrap()
        );
        let row = app.job(id).await;
        assert_eq!(
            (row.state.as_str(), row.attempt, row.worker, row.failures()),
            ("running", 3, Some(7), 0)
        );
    }
    assert_eq!(app.number("SELECT count(*) FROM polar_jobs.jobs").await, 1);
}

#[tokio::test]
async fn a_job_is_completed_wherever_its_row_is_by_now_and_none_in_its_stead() {
    let app = TestApp::new().await;
    let mut connection = app.connect().await;
    let worker = register(&mut connection).await;
    let rows = ["moved", "mistaken", "there", "other"].map(|label| Script::note(label).row());
    app.add_all(&rows).await;
    let mut claimed = complete_and_claim(&mut connection, worker, &[], 4)
        .await
        .unwrap();
    claimed.sort_by_key(|job| job.id);
    let [moved, mistaken, there, other] = &claimed[..] else {
        panic!("four were claimed, not {claimed:?}");
    };
    for job in &claimed {
        let ctid: Ctid = sqlx::query_scalar("SELECT ctid FROM polar_jobs.live_jobs WHERE id = $1")
            .bind(job.id)
            .fetch_one(&app.pool)
            .await
            .unwrap();
        assert_eq!(job.ctid, ctid);
    }
    sqlx::query("UPDATE polar_jobs.live_jobs SET note = 'elsewhere now' WHERE id = $1")
        .bind(moved.id)
        .execute(&app.pool)
        .await
        .unwrap();
    let ended = [
        completion(moved),
        Completion {
            ctid: other.ctid,
            ..completion(mistaken)
        },
        completion(there),
    ];
    complete_and_claim(&mut connection, worker, &ended, 0)
        .await
        .unwrap();
    for (job, state) in [
        (moved, "completed"),
        (mistaken, "completed"),
        (there, "completed"),
        (other, "running"),
    ] {
        assert_eq!(app.job(job.id).await.state, state, "{}", job.payload);
    }
    assert_eq!(app.number("SELECT count(*) FROM polar_jobs.jobs").await, 4);
}

#[tokio::test]
async fn a_result_that_the_database_refuses_is_a_failure_not_a_loop() {
    let app = TestApp::new().await;
    let worker = app.work(4).await;
    let id = app
        .add(Script::new("refused", [vec![Act::NulFollow]]).row())
        .await;
    let row = app.until_returned(id, 1).await;
    assert_eq!(row.failures(), 1);
    assert!(
        row.last_error()
            .starts_with("the database refused the result"),
        "{}",
        row.last_error()
    );
    worker.stop().await;
}

#[tokio::test]
async fn events_learn_what_became_of_their_job_and_why_and_know_it_when_the_job_is_gone() {
    let app = TestApp::new().await;
    let worker = app.work(4).await;
    for (act, outcome, note) in [
        (Act::Done, "applied", "note IS NULL"),
        (Act::Ignored("same".into()), "ignored", "note = 'same'"),
        (Act::Discard("bad".into()), "failed", "note LIKE '%bad%'"),
    ] {
        for within in [false, true] {
            let event = app
                .number("INSERT INTO polar_jobs.stored_events (source, type) VALUES ('app', 'x') RETURNING id")
                .await;
            let mut acts = vec![act.clone()];
            if within {
                acts.insert(0, Act::Write(format!("{outcome} {event}")));
            }
            app.add(Script::new("e", [acts]).row().caused_by(event))
                .await;
            let handled = format!(
                "SELECT count(*) FROM polar_jobs.external_events WHERE id = {event} AND outcome = '{outcome}' AND {note} AND handled_at IS NOT NULL"
            );
            app.until_number(&handled, 1).await;
            sqlx::query("DELETE FROM polar_jobs.finished_jobs")
                .execute(&app.pool)
                .await
                .unwrap();
            app.until_number(&handled, 1).await;
        }
    }
    worker.stop().await;
}
