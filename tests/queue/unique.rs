//! Unique keys: among waiting jobs at most one has a key.

use chrono::{Duration, Utc};
use sqlx::Connection;

use crate::ledger::Mark;
use crate::script::{Act, Script};
use crate::test_app::TestApp;
use polar_jobs::operators::Actor;
use polar_jobs::queue::table::{self, Acted, Action};
use polar_jobs::queue::{enqueue, release};

fn keyed(label: &str) -> Script {
    Script::note(label).unique("key")
}

/// The two ways in which a kind may have a unique key: alone, or as its ordering key.
fn both(label: &str) -> [Script; 2] {
    [keyed(label), keyed(label).ordered("key")]
}

#[tokio::test]
async fn a_waiting_duplicate_answers_null_and_takes_the_newer_payload() {
    let app = TestApp::new().await;
    let first = app.add(keyed("first").row()).await;
    assert_eq!(app.offer(keyed("second").row()).await, None);
    let sql: Option<i64> = sqlx::query_scalar(
        r#"SELECT polar_jobs.enqueue('trial', '{"label": "x"}', unique_key => 'key')"#,
    )
    .fetch_one(&app.pool)
    .await
    .unwrap();
    assert_eq!(sql, None);
    let batch = [
        keyed("a").row(),
        Script::note("b").row(),
        Script::note("c").unique("new").row(),
        Script::note("d").unique("new").row(),
    ];
    let ids = app.add_all(&batch).await;
    assert_eq!(
        ids.iter().map(Option::is_some).collect::<Vec<_>>(),
        [false, true, true, false]
    );
    assert_eq!(app.job(ids[1].unwrap()).await.payload["label"], "b");
    assert_eq!(app.job(ids[2].unwrap()).await.payload["label"], "d");
    assert_eq!(app.job(first).await.payload["label"], "a");
}

#[tokio::test]
async fn a_more_urgent_duplicate_makes_the_waiting_one_as_urgent() {
    let app = TestApp::new().await;
    let id = app.add(keyed("first").row().with_priority(30)).await;
    let priority = format!("SELECT priority::bigint FROM polar_jobs.jobs WHERE id = {id}");
    for (urgency, expected) in [(10, 10), (20, 10)] {
        let later = keyed("later").row().with_priority(urgency);
        assert_eq!(app.offer(later).await, None);
        assert_eq!(app.number(&priority).await, expected);
    }
}

#[tokio::test]
async fn an_uncommitted_duplicate_of_the_application_is_waited_for() {
    for (script, commits) in both("job")
        .iter()
        .flat_map(|script| [(script, true), (script, false)])
    {
        let app = TestApp::new().await;
        let mut other = app.connect().await;
        let mut open = other.begin().await.unwrap();
        assert!(script.enqueue(&mut open).await.is_some());
        let (mut mine, same) = (app.connect().await, script.clone());
        let second = tokio::spawn(async move { same.enqueue(&mut mine).await });
        app.until_somebody_waits().await;
        if commits {
            open.commit().await.unwrap();
        } else {
            open.rollback().await.unwrap();
        }
        assert_eq!(second.await.unwrap().is_none(), commits);
        let free = "SELECT count(*) FROM polar_jobs.jobs WHERE NOT blocked";
        assert_eq!(app.number(free).await, 1);
        assert_eq!(app.number("SELECT count(*) FROM polar_jobs.jobs").await, 1);
    }
}

#[tokio::test]
async fn news_for_a_job_that_come_while_an_operator_updates_many_are_not_undone() {
    for script in both("job") {
        let app = TestApp::new().await;
        let hour = Utc::now() + Duration::hours(1);
        let first = app.add(Script::note("first").row().at(hour)).await;
        let id = app.add(script.row().at(hour)).await;
        let (mut other, mut person) = (app.connect().await, app.connect().await);
        // The statement waits at the first row while news come for the second.
        let mut meanwhile = async |label: &str, set: &str| {
            let mut open = other.begin().await.unwrap();
            let row = "SELECT FROM polar_jobs.live_jobs WHERE id = $1 FOR UPDATE";
            let row = sqlx::query(row).bind(first);
            row.execute(&mut *open).await.unwrap();
            let update = format!("UPDATE polar_jobs.jobs SET {set}");
            let updating = sqlx::query(sqlx::AssertSqlSafe(update)).execute(&mut person);
            let news = async {
                app.until_somebody_waits().await;
                let news = Script {
                    label: label.to_owned(),
                    ..script.clone()
                };
                assert_eq!(app.offer(news.row()).await, None);
                open.rollback().await.unwrap();
            };
            tokio::join!(updating, news).0
        };
        let updated = meanwhile("second", "max_attempts = 3").await.unwrap();
        assert_eq!(updated.rows_affected(), 2);
        assert_eq!(app.job(id).await.payload["label"], "second");
        let budget = format!("SELECT max_attempts::bigint FROM polar_jobs.jobs WHERE id = {id}");
        assert_eq!(app.number(&budget).await, 3);
        let early = "SELECT count(*) FROM polar_jobs.jobs WHERE run_at <= now()";
        assert_eq!(app.number(early).await, 1, "news run at once");

        let other_label = r#"payload = '{"label": "mine"}'"#;
        let refused = meanwhile("third", other_label).await.unwrap_err();
        let code = refused.as_database_error().unwrap().code();
        assert_eq!(code.as_deref(), Some("40001"), "{refused}");
        assert_eq!(app.job(id).await.payload["label"], "third");
    }
}

#[tokio::test]
async fn a_duplicate_that_is_claimed_before_the_news_are_committed_does_not_swallow_them() {
    for script in both("job") {
        let app = TestApp::new().await;
        let first = app.add(script.row()).await;
        let mut other = app.connect().await;
        let mut open = other.begin().await.unwrap();
        assert_eq!(script.enqueue(&mut open).await, None);
        let worker = app.work(4).await;
        app.until_state(first, "completed").await;
        open.commit().await.unwrap();
        app.ledger.reached(Mark::Ended, "job", 2).await;
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_merge_keeps_the_reasons_of_both_and_runs_when_the_earlier_one_would() {
    for script in both("waiting") {
        let app = TestApp::new().await;
        let mut reason = script.row().at(Utc::now() + Duration::hours(2));
        reason.payload["unconditional"] = true.into();
        let id = app.add(reason).await;
        let newer = Script {
            label: "newer".to_owned(),
            ..script.clone()
        };
        let soon = Utc::now() + Duration::hours(1);
        assert_eq!(
            app.offer(newer.row().at(soon).with_priority(-3)).await,
            None
        );
        let merged = app.job(id).await;
        assert_eq!(merged.payload["label"], "newer");
        assert_eq!(
            merged.payload["unconditional"], true,
            "omitted by the newer one, so it stays"
        );
        assert!((merged.wait - 3600.0).abs() < 60.0, "{}", merged.wait);
        assert_eq!(script.enqueue(&mut app.connect().await).await, None);
        let merged = app.job(id).await;
        assert!(merged.wait <= 0.0, "{}", merged.wait);
        assert_eq!(merged.payload["unconditional"], true);
        let urgency = format!("SELECT priority::bigint FROM polar_jobs.jobs WHERE id = {id}");
        assert_eq!(app.number(&urgency).await, -3);
        assert_eq!(app.number("SELECT count(*) FROM polar_jobs.jobs").await, 1);
    }
}

#[tokio::test]
async fn news_bring_a_failed_job_forward_and_its_failures_stay_counted() {
    for unique in both("failing") {
        let app = TestApp::new().await;
        let worker = app.work(4).await;
        let script = Script {
            acts: vec![vec![Act::Fail("no".into())], vec![Act::Done]],
            ..unique
        };
        let id = app.add(script.row()).await;
        app.until_returned(id, 1).await;
        app.execute("UPDATE polar_jobs.live_jobs SET run_at = now() + interval '1 hour'")
            .await;
        assert_eq!(app.offer(script.row()).await, None);
        let row = app.until_state(id, "completed").await;
        assert_eq!((row.attempt, row.failures()), (2, 1));
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_job_that_fails_for_ever_gets_no_new_budget_from_news() {
    for unique in both("failing") {
        let app = TestApp::new().await;
        let worker = app.work(1).await;
        let fail = || vec![Act::Hold("failing".into()), Act::Fail("no".into())];
        let script = Script {
            acts: vec![fail(), fail()],
            ..unique
        };
        let mut job = script.row();
        job.max_attempts = 2;
        let id = app.add(job).await;
        app.ledger.reached(Mark::Started, "failing", 1).await;
        let news = app.add(script.row()).await;
        app.ledger.open("failing");
        assert_eq!(app.until_state(id, "discarded").await.failures(), 2);
        assert_eq!(
            app.job(news).await.state,
            "cancelled",
            "merged into the one that failed"
        );
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_duplicate_that_arrives_while_one_runs_is_kept() {
    let app = TestApp::new().await;
    let worker = app.work(4).await;
    app.add(Script::hold("held").unique("key").row()).await;
    app.ledger.reached(Mark::Started, "held", 1).await;
    let second = app.add(Script::hold("second").unique("key").row()).await;
    app.ledger.reached(Mark::Started, "second", 1).await;
    let third = app
        .add(keyed("third").row().at(Utc::now() + Duration::hours(1)))
        .await;
    let later = Utc::now() + Duration::hours(2);
    assert_eq!(app.offer(keyed("fourth").row().at(later)).await, None);
    app.ledger.open("held");
    app.ledger.open("second");
    app.until_state(second, "completed").await;
    assert_eq!(app.job(third).await.state, "available");
    worker.stop().await;
}

#[tokio::test]
async fn a_job_that_comes_back_takes_over_its_waiting_duplicate() {
    for unique in both("failing") {
        let app = TestApp::new().await;
        let worker = app.work(4).await;
        let events = [app.event().await, app.event().await];
        let acts = vec![
            vec![Act::Hold("failing".into()), Act::Fail("no".into())],
            vec![Act::Done],
        ];
        let script = Script { acts, ..unique };
        let first = app
            .add(script.row().caused_by(events[0]).with_priority(9))
            .await;
        app.ledger.reached(Mark::Started, "failing", 1).await;
        app.execute("UPDATE polar_jobs.queues SET paused_at = now()")
            .await;
        let second = app.add(script.row().caused_by(events[1])).await;
        app.ledger.open("failing");
        let gone = app.until_state(second, "cancelled").await;
        assert_eq!(gone.note.unwrap(), format!("merged into job {first}"));
        let back = app.job(first).await;
        assert_eq!(
            (back.state.as_str(), back.last_error()),
            ("available", "no")
        );
        assert_eq!(
            back.events.as_deref(),
            Some(&events[..]),
            "it answers for both"
        );
        assert!(
            back.wait <= 0.0,
            "it runs when the duplicate would: {}",
            back.wait
        );
        let urgency = format!("SELECT priority::bigint FROM polar_jobs.jobs WHERE id = {first}");
        assert_eq!(app.number(&urgency).await, 0, "as urgent as the duplicate");
        for event in events {
            assert_eq!(app.outcome(event).await, None, "no cause is handled yet");
        }
        app.execute("UPDATE polar_jobs.queues SET paused_at = NULL")
            .await;
        app.until_state(first, "completed").await;
        for event in events {
            assert_eq!(app.outcome(event).await.as_deref(), Some("applied"));
        }
        worker.stop().await;
    }
}

#[tokio::test]
async fn two_of_one_key_that_fail_at_once_leave_one() {
    let app = TestApp::new().await;
    let worker = app.work(4).await;
    let acts = || vec![Act::Hold("both".into()), Act::Fail("no".into())];
    let mut ids = Vec::new();
    for label in ["one", "two", "three"] {
        ids.push(
            app.add(Script::new(label, [acts()]).unique("key").row())
                .await,
        );
        app.ledger.reached(Mark::Started, label, 1).await;
    }
    app.ledger.open("both");
    app.until_number(
        "SELECT count(*) FROM polar_jobs.jobs WHERE state = 'cancelled'",
        2,
    )
    .await;
    app.until_number(
        "SELECT count(*) FROM polar_jobs.jobs WHERE state = 'available'",
        1,
    )
    .await;
    worker.stop().await;
}

#[tokio::test]
async fn batches_of_the_same_keys_in_other_order_do_not_deadlock() {
    let app = TestApp::new().await;
    let keys: Vec<String> = (0..200).map(|n| format!("key {n}")).collect();
    for _ in 0..10 {
        let forward: Vec<_> = keys
            .iter()
            .map(|key| Script::note("f").unique(key).ordered(key).row())
            .collect();
        let backward: Vec<_> = keys
            .iter()
            .rev()
            .map(|key| Script::note("b").unique(key).ordered(key).row())
            .collect();
        let mut tasks = Vec::new();
        for batch in [forward.clone(), backward.clone(), forward, backward] {
            let mut connection = app.connect().await;
            tasks.push(tokio::spawn(async move {
                enqueue::insert_all(&mut connection, &batch).await
            }));
        }
        for task in tasks {
            task.await.unwrap().expect("no deadlock");
        }
        // Behind a row that was held for longer than a moment the duplicate stands blocked, until a releaser merges it.
        let free = "SELECT count(*) FROM polar_jobs.live_jobs WHERE NOT blocked";
        assert_eq!(app.number(free).await, 200, "one of each key");
        app.execute("DELETE FROM polar_jobs.live_jobs").await;
    }
}

#[tokio::test]
async fn an_open_transaction_with_a_duplicate_holds_up_no_return() {
    for unique in both("failing") {
        let app = TestApp::new().await;
        let worker = app.work(4).await;
        let acts = vec![
            vec![Act::Hold("failing".into()), Act::Fail("no".into())],
            vec![Act::Done],
        ];
        let script = Script { acts, ..unique };
        let id = app.add(script.row()).await;
        app.ledger.reached(Mark::Started, "failing", 1).await;
        app.execute("UPDATE polar_jobs.queues SET paused_at = now()")
            .await;
        let mut other = app.connect().await;
        let mut open = other.begin().await.unwrap();
        let second = script.enqueue(&mut open).await.unwrap();
        app.ledger.open("failing");
        app.until_returned(id, 1).await;
        open.commit().await.unwrap();
        let gone = app.until_state(second, "cancelled").await;
        assert_eq!(gone.note.unwrap(), format!("merged into job {id}"));
        app.execute("UPDATE polar_jobs.queues SET paused_at = NULL")
            .await;
        app.until_state(id, "completed").await;
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_waiting_row_that_somebody_holds_delays_only_its_own_key() {
    for unique in both("held") {
        let app = TestApp::new().await;
        let id = app
            .add(unique.row().at(Utc::now() + Duration::hours(1)))
            .await;
        let mut operator = app.connect().await;
        let mut open = operator.begin().await.unwrap();
        sqlx::query("SELECT FROM polar_jobs.live_jobs WHERE id = $1 FOR UPDATE")
            .bind(id)
            .execute(&mut *open)
            .await
            .unwrap();
        let batch = [unique.row(), Script::note("other").unique("other").row()];
        let stored = app.add_all(&batch).await;
        let worker = app.work(4).await;
        app.until_state(stored[1].unwrap(), "completed").await;
        open.rollback().await.unwrap();
        let merged = app.until_state(stored[0].unwrap(), "cancelled").await;
        assert_eq!(merged.note.unwrap(), format!("merged into job {id}"));
        app.until_state(id, "completed").await;
        worker.stop().await;
    }
}

/// What a person does who wants it to run again.
async fn retry(app: &TestApp, id: i64) -> Acted {
    table::act(&app.pool, &Actor::of_system(), Action::Retry, id)
        .await
        .unwrap()
}

/// A session that keeps a row to itself.
async fn hold(app: &TestApp, id: i64) -> sqlx::PgConnection {
    let mut holder = app.connect().await;
    sqlx::raw_sql("BEGIN").execute(&mut holder).await.unwrap();
    sqlx::query("SELECT FROM polar_jobs.live_jobs WHERE id = $1 FOR UPDATE")
        .bind(id)
        .execute(&mut holder)
        .await
        .unwrap();
    holder
}

#[tokio::test]
async fn a_job_that_is_retried_gives_its_events_to_the_one_that_waits_and_nothing_else() {
    for (unique, held) in both("old").iter().flat_map(|u| [(u, false), (u, true)]) {
        let app = TestApp::new().await;
        let event = app.event().await;
        let old = app.add(unique.row().caused_by(event)).await;
        app.execute("SELECT polar_jobs.end_jobs(ARRAY(SELECT id FROM polar_jobs.live_jobs), 'discarded', 'failed', 'x', NULL)")
            .await;
        assert_eq!(app.outcome(event).await.as_deref(), Some("failed"));
        let newer = Script {
            label: "newer".to_owned(),
            ..unique.clone()
        };
        let hour = Utc::now() + Duration::hours(1);
        let waiting = app.add(newer.row().at(hour).with_priority(9)).await;
        if held {
            // It is looked for later, by whoever handles the notes.
            let mut holder = hold(&app, waiting).await;
            let behind_it = Acted::WaitsAgain { blocked: true };
            assert_eq!(retry(&app, old).await, behind_it);
            sqlx::raw_sql("ROLLBACK")
                .execute(&mut holder)
                .await
                .unwrap();
            release::release_noted_keys(&mut app.connect().await)
                .await
                .unwrap();
            let note = app.job(old).await.note;
            assert_eq!(note.unwrap(), format!("merged into job {waiting}"));
        } else {
            let duplicate = Acted::DuplicateWaits { duplicate: waiting };
            assert_eq!(retry(&app, old).await, duplicate);
        }
        let row = app.job(waiting).await;
        assert_eq!(row.payload["label"], "newer");
        assert!(row.wait > 3000.0, "{}", row.wait);
        assert_eq!(row.events, Some(vec![event]));
        assert_eq!(app.outcome(event).await, None, "the one that waits decides");
        let urgency = format!("SELECT priority::bigint FROM polar_jobs.jobs WHERE id = {waiting}");
        assert_eq!(app.number(&urgency).await, 9);
    }
}

#[tokio::test]
async fn news_whose_note_is_handled_late_do_not_replace_those_that_were_committed_after_them() {
    for (unique, held) in both("older").iter().flat_map(|u| [(u, false), (u, true)]) {
        let app = TestApp::new().await;
        let mut application = app.connect().await;
        // Left to the releaser: such a transaction does not see who is there when it commits.
        let mut repeatable = application
            .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ")
            .await
            .unwrap();
        let older = unique.enqueue(&mut repeatable).await.unwrap();
        repeatable.commit().await.unwrap();
        let holder = if held {
            Some(hold(&app, older).await)
        } else {
            None
        };
        for label in ["newer", "newest"] {
            let news = Script {
                label: label.to_owned(),
                ..unique.clone()
            };
            assert_eq!(news.enqueue(&mut application).await, None);
        }
        if let Some(mut holder) = holder {
            release::release_noted_keys(&mut application).await.unwrap();
            let free = "SELECT count(*) FROM polar_jobs.live_jobs WHERE NOT blocked";
            assert_eq!(app.number(free).await, 0, "all come after the first");
            sqlx::raw_sql("ROLLBACK")
                .execute(&mut holder)
                .await
                .unwrap();
        }
        release::release_noted_keys(&mut application).await.unwrap();
        assert_eq!(app.job(older).await.payload["label"], "newest");
        assert!(!app.job(older).await.blocked);
        assert_eq!(app.number("SELECT count(*) FROM polar_jobs.jobs").await, 1);
        let notes = "SELECT count(*) FROM polar_jobs.key_releases";
        assert_eq!(app.number(notes).await, 0);
    }
}
