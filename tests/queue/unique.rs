//! Unique keys: among waiting jobs at most one has a key.

use chrono::{Duration, Utc};
use sqlx::Connection;

use crate::ledger::Mark;
use crate::script::{Act, Script};
use crate::stand::{Stand, eventually};
use polar_jobs::queue::enqueue;

fn twin(label: &str) -> Script {
    Script::note(label).unique("key")
}

#[tokio::test]
async fn a_waiting_twin_answers_null() {
    let stand = Stand::new().await;
    let first = stand.add(twin("first").row()).await;
    assert_eq!(stand.offer(twin("second").row()).await, None);
    let sql: Option<i64> = sqlx::query_scalar(
        r#"SELECT polar_jobs.enqueue('trial', '{"label": "x"}', unique_key => 'key')"#,
    )
    .fetch_one(&stand.pool)
    .await
    .unwrap();
    assert_eq!(sql, None);
    let batch = [
        twin("a").row(),
        Script::note("b").row(),
        Script::note("c").unique("new").row(),
        Script::note("d").unique("new").row(),
    ];
    let ids = stand.add_all(&batch).await;
    assert_eq!(
        ids.iter().map(Option::is_some).collect::<Vec<_>>(),
        [false, true, true, false]
    );
    assert_eq!(stand.job(ids[1].unwrap()).await.payload["label"], "b");
    assert_eq!(stand.job(ids[2].unwrap()).await.payload["label"], "c");
    assert_eq!(stand.job(first).await.payload["label"], "first");
}

#[tokio::test]
async fn a_more_urgent_twin_makes_the_waiting_one_as_urgent() {
    let stand = Stand::new().await;
    let id = stand.add(twin("first").row().with_priority(30)).await;
    let priority = format!("SELECT priority::bigint FROM polar_jobs.jobs WHERE id = {id}");
    for (urgency, expected) in [(10, 10), (20, 10)] {
        let later = twin("later").row().with_priority(urgency);
        assert_eq!(stand.offer(later).await, None);
        assert_eq!(stand.number(&priority).await, expected);
    }
}

#[tokio::test]
async fn an_uncommitted_twin_is_waited_for() {
    for commits in [true, false] {
        let stand = Stand::new().await;
        let mut other = stand.connect().await;
        let mut open = other.begin().await.unwrap();
        enqueue::insert(&mut open, &twin("first").row())
            .await
            .unwrap()
            .unwrap();
        let (mut mine, row) = (stand.connect().await, twin("second").row());
        let second = tokio::spawn(async move { enqueue::insert(&mut mine, &row).await.unwrap() });
        stand.until_somebody_waits().await;
        if commits {
            open.commit().await.unwrap();
        } else {
            open.rollback().await.unwrap();
        }
        assert_eq!(second.await.unwrap().is_none(), commits);
        assert_eq!(
            stand.number("SELECT count(*) FROM polar_jobs.jobs").await,
            1
        );
    }
}

#[tokio::test]
async fn a_twin_that_arrives_while_one_runs_is_kept() {
    let stand = Stand::new().await;
    let worker = stand.work(4).await;
    stand.add(Script::hold("held").unique("key").row()).await;
    stand.ledger.reached(Mark::Started, "held", 1).await;
    let second = stand.add(Script::hold("second").unique("key").row()).await;
    stand.ledger.reached(Mark::Started, "second", 1).await;
    let third = stand
        .add(twin("third").row().at(Utc::now() + Duration::hours(1)))
        .await;
    assert_eq!(stand.offer(twin("fourth").row()).await, None);
    stand.ledger.open("held");
    stand.ledger.open("second");
    stand.until_state(second, "completed").await;
    assert_eq!(stand.job(third).await.state, "available");
    worker.stop().await;
}

#[tokio::test]
async fn a_failing_job_gives_way_to_its_waiting_twin() {
    let stand = Stand::new().await;
    let worker = stand.work(4).await;
    let events: Vec<i64> = sqlx::query_scalar(
        "INSERT INTO polar_jobs.stored_events (source, type) SELECT 'app', 'x' FROM generate_series(1, 2) RETURNING id",
    )
    .fetch_all(&stand.pool)
    .await
    .unwrap();
    let acts = vec![Act::Hold("failing".into()), Act::Fail("no".into())];
    let first = stand
        .add(
            Script::new("failing", [acts])
                .unique("key")
                .row()
                .caused_by(events[0]),
        )
        .await;
    stand.ledger.reached(Mark::Started, "failing", 1).await;
    stand
        .execute("UPDATE polar_jobs.queues SET paused_at = now()")
        .await;
    let patient = twin("twin").row().caused_by(events[1]);
    let second = stand.add(patient.with_priority(9)).await;
    stand.ledger.open("failing");
    let gone = stand.until_state(first, "cancelled").await;
    assert_eq!(gone.last_error(), "no", "what went wrong stays readable");
    assert!(
        gone.note
            .unwrap()
            .contains(&format!("gave way to job {second}"))
    );
    let urgent = format!("SELECT priority::bigint FROM polar_jobs.jobs WHERE id = {second}");
    assert_eq!(
        stand.number(&urgent).await,
        0,
        "as urgent as the one before"
    );
    let heir = stand.job(second).await;
    assert_eq!(
        heir.events.as_deref(),
        Some(&events[..]),
        "its cause moved to the twin"
    );
    assert!(heir.wait > 0.0, "so did its delay: {}", heir.wait);
    let handled = "SELECT count(*) FROM polar_jobs.stored_events WHERE handled_at IS NOT NULL";
    assert_eq!(
        stand.number(handled).await,
        0,
        "the cause is not settled yet"
    );
    stand
        .execute("UPDATE polar_jobs.queues SET paused_at = NULL")
        .await;
    stand.due_now(second).await;
    stand.until_state(second, "completed").await;
    assert_eq!(stand.number(handled).await, 2);
    worker.stop().await;
}

#[tokio::test]
async fn two_of_one_key_that_fail_at_once_leave_one() {
    let stand = Stand::new().await;
    let worker = stand.work(4).await;
    let acts = || vec![Act::Hold("both".into()), Act::Fail("no".into())];
    let mut ids = Vec::new();
    for label in ["one", "two", "three"] {
        ids.push(
            stand
                .add(Script::new(label, [acts()]).unique("key").row())
                .await,
        );
        stand.ledger.reached(Mark::Started, label, 1).await;
    }
    stand.ledger.open("both");
    stand
        .until_number(
            "SELECT count(*) FROM polar_jobs.jobs WHERE state = 'cancelled'",
            2,
        )
        .await;
    stand
        .until_number(
            "SELECT count(*) FROM polar_jobs.jobs WHERE state = 'available'",
            1,
        )
        .await;
    worker.stop().await;
}

#[tokio::test]
async fn a_later_twin_moves_a_debounced_job_up_to_its_longest_wait() {
    let stand = Stand::new().await;
    let now = Utc::now();
    let first = twin("v1")
        .row()
        .debounced(now, Duration::seconds(60), Duration::seconds(100));
    let id = stand.add(first).await;
    let seconds = |wait: f64| (wait / 10.0).round() * 10.0;
    assert!((seconds(stand.job(id).await.wait) - 60.0).abs() < 1.0);
    let later = |label: &str, by: i64| {
        twin(label).row().debounced(
            now + Duration::seconds(by),
            Duration::seconds(60),
            Duration::seconds(100),
        )
    };
    assert_eq!(stand.offer(later("v2", 20)).await, None);
    let row = stand.job(id).await;
    assert!((seconds(row.wait) - 80.0).abs() < 1.0, "{}", row.wait);
    assert_eq!(row.payload["label"], "v2", "the newest payload runs");
    assert_eq!(stand.offer(later("v3", 90)).await, None);
    let row = stand.job(id).await;
    assert!((seconds(row.wait) - 100.0).abs() < 1.0, "{}", row.wait);
}

#[tokio::test]
async fn batches_of_the_same_keys_in_other_order_do_not_deadlock() {
    let stand = Stand::new().await;
    let keys: Vec<String> = (0..200).map(|n| format!("key {n}")).collect();
    for _ in 0..10 {
        let forward: Vec<_> = keys
            .iter()
            .map(|key| Script::note("f").unique(key).row())
            .collect();
        let backward: Vec<_> = keys
            .iter()
            .rev()
            .map(|key| Script::note("b").unique(key).row())
            .collect();
        let mut tasks = Vec::new();
        for batch in [forward.clone(), backward.clone(), forward, backward] {
            let mut connection = stand.connect().await;
            tasks.push(tokio::spawn(async move {
                enqueue::insert_all(&mut connection, &batch).await
            }));
        }
        let mut made = 0;
        for task in tasks {
            made += task
                .await
                .unwrap()
                .expect("no deadlock")
                .into_iter()
                .flatten()
                .count();
        }
        assert_eq!(made, keys.len());
        stand.execute("DELETE FROM polar_jobs.live_jobs").await;
    }
}

#[tokio::test]
async fn an_open_transaction_with_a_twin_does_not_hold_up_the_rescue_of_others() {
    let stand = Stand::new().await;
    let jobs = [
        Script::note("unique").unique("key").row(),
        Script::note("other").row(),
    ];
    let ids = stand.add_all(&jobs).await;
    let dead = 77;
    stand.execute("UPDATE polar_jobs.live_jobs SET worker = 77, attempt = 1, held_unique_key = unique_key, unique_key = NULL").await;
    let mut other = stand.connect().await;
    let mut open = other.begin().await.unwrap();
    let heir = enqueue::insert(&mut open, &twin("twin").row())
        .await
        .unwrap()
        .unwrap();
    stand
        .execute(&format!("SELECT polar_jobs.return_jobs_of({dead})"))
        .await;
    assert_eq!(stand.job(ids[1].unwrap()).await.state, "available");
    assert_eq!(
        stand.job(ids[0].unwrap()).await.state,
        "running",
        "left for the next sweep"
    );
    open.commit().await.unwrap();
    stand
        .execute(&format!("SELECT polar_jobs.return_jobs_of({dead})"))
        .await;
    let gone = stand.job(ids[0].unwrap()).await;
    assert_eq!(
        (gone.state.as_str(), gone.failures()),
        ("cancelled", 1),
        "charged once"
    );
    assert_eq!(stand.job(heir).await.state, "available");
}

#[tokio::test]
async fn an_open_transaction_with_a_twin_holds_up_nobody_else() {
    let stand = Stand::new().await;
    let worker = stand.work(4).await;
    let failing = Script::new(
        "failing",
        [vec![Act::Hold("failing".into()), Act::Fail("no".into())]],
    )
    .unique("key");
    let id = stand.add(failing.row()).await;
    stand.ledger.reached(Mark::Started, "failing", 1).await;
    let mut other = stand.connect().await;
    let mut open = other.begin().await.unwrap();
    let heir = enqueue::insert(&mut open, &twin("twin").row())
        .await
        .unwrap()
        .unwrap();
    stand.ledger.open("failing");
    stand.ledger.reached(Mark::Ended, "failing", 1).await;
    for n in 0..5 {
        let next = stand.add(Script::note(&format!("next {n}")).row()).await;
        stand.until_state(next, "completed").await;
    }
    open.commit().await.unwrap();
    stand.until_state(id, "cancelled").await;
    eventually("the twin takes over", || async {
        let row = stand.job(heir).await;
        if row.wait > 0.0 || row.state == "completed" {
            Ok(())
        } else {
            Err(format!("{row:?}"))
        }
    })
    .await;
    worker.stop().await;
}
