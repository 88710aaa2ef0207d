//! Ordering keys: one at a time, in the order of commits, whatever becomes of each.

use sqlx::Connection;

use crate::ledger::Mark;
use crate::script::{Act, Script};
use crate::test_app::{TestApp, eventually_some};
use polar_jobs::queue::enqueue;

fn keyed(label: &str, acts: impl IntoIterator<Item = Vec<Act>>) -> Script {
    Script::new(label, acts).ordered("key")
}

/// The order in which labels began, and that none began before the one before it was over.
fn one_at_a_time(app: &TestApp) -> Vec<String> {
    let mut running = None;
    let mut order: Vec<String> = Vec::new();
    for entry in app.ledger.entries() {
        match entry.mark {
            Mark::Started => {
                assert_eq!(running, None, "{} began while another ran", entry.label);
                if order.last() != Some(&entry.label) {
                    order.push(entry.label.clone());
                }
                running = Some(entry.job);
            }
            Mark::Ended | Mark::Dropped => running = None,
        }
    }
    order
}

#[tokio::test]
async fn jobs_of_one_key_run_one_at_a_time_in_the_order_they_were_enqueued() {
    let app = TestApp::new().await;
    let labels: Vec<String> = (0..30).map(|n| format!("{n}")).collect();
    for label in &labels[..10] {
        app.add(keyed(label, [vec![Act::Work(2)]]).row()).await;
    }
    let rest: Vec<_> = labels[10..]
        .iter()
        .map(|label| keyed(label, [vec![Act::Work(2)]]).row())
        .collect();
    app.add_all(&rest).await;
    let workers = [app.work(8).await, app.work(8).await];
    app.until_empty().await;
    assert_eq!(one_at_a_time(&app), labels);
    for worker in workers {
        worker.stop().await;
    }
}

#[tokio::test]
async fn the_next_of_a_key_starts_when_the_one_before_ends_not_at_the_next_poll() {
    let app = TestApp::new().await;
    let worker = app.work(8).await;
    app.until_asleep().await;
    let batch: Vec<_> = (0..40).map(|n| keyed(&n.to_string(), []).row()).collect();
    let begun = std::time::Instant::now();
    app.add_all(&batch).await;
    app.until_empty().await;
    // Polling alone would take 40 s; half of that leaves room for a slow machine.
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    worker.stop().await;
}

#[tokio::test]
async fn a_job_that_fails_or_snoozes_keeps_its_place() {
    let app = TestApp::new().await;
    let worker = app.work(8).await;
    let first = app
        .add(
            keyed(
                "first",
                [
                    vec![Act::Fail("x".into())],
                    vec![Act::Snooze(600.0)],
                    vec![],
                ],
            )
            .row(),
        )
        .await;
    let second = app.add(keyed("second", []).row()).await;
    app.until_returned(first, 1).await;
    let other = app.add(Script::note("other").row()).await;
    app.until_state(other, "completed").await;
    assert!(app.job(second).await.blocked);
    app.due_now(first).await;
    app.until_returned(first, 2).await;
    assert!(app.job(second).await.blocked);
    app.due_now(first).await;
    app.until_state(second, "completed").await;
    assert_eq!(app.job(first).await.state, "completed");
    worker.stop().await;
}

#[tokio::test]
async fn a_rescued_job_keeps_its_place() {
    let app = TestApp::new().await;
    let worker = app.work(8).await;
    let first = app
        .add(keyed("first", [vec![Act::Hold("never".into())], vec![]]).row())
        .await;
    let second = app.add(keyed("second", []).row()).await;
    app.ledger.reached(Mark::Started, "first", 1).await;
    let dead = app.job(first).await.worker.unwrap();
    app.execute(&format!("SELECT polar_jobs.requeue_jobs_of({dead})"))
        .await;
    app.until_state(second, "completed").await;
    let started = app.ledger.labels(Mark::Started);
    assert_eq!(started, ["first", "first", "second"]);
    app.ledger.open("never");
    worker.stop().await;
}

#[tokio::test]
async fn a_discarded_or_cancelled_head_releases_its_key() {
    let app = TestApp::new().await;
    let worker = app.work(8).await;
    let discarded = keyed(
        "discarded",
        [vec![Act::Hold("go".into()), Act::Discard("bad".into())]],
    );
    app.add(discarded.row()).await;
    app.ledger.reached(Mark::Started, "discarded", 1).await;
    let cancelled = app
        .add(
            keyed("cancelled", [])
                .row()
                .at(chrono::Utc::now() + chrono::Duration::hours(1)),
        )
        .await;
    let third = app.add(keyed("third", []).row()).await;
    app.ledger.open("go");
    eventually_some("the second is the head", || async {
        if app.job(cancelled).await.blocked {
            Err(String::new())
        } else {
            Ok(())
        }
    })
    .await;
    assert!(app.job(third).await.blocked);
    app.execute(&format!("SELECT polar_jobs.move_to_history(ARRAY[j], 'cancelled', 'ignored', 'by hand') FROM polar_jobs.live_jobs j WHERE id = {cancelled}")).await;
    app.until_state(third, "completed").await;
    worker.stop().await;
}

#[tokio::test]
async fn an_application_waits_for_its_own_open_enqueue_of_the_same_key() {
    let app = TestApp::new().await;
    let mut other = app.connect().await;
    let mut open = other.begin().await.unwrap();
    let first = keyed("first", []).enqueue(&mut open).await.unwrap();
    let mut mine = app.connect().await;
    let second = tokio::spawn(async move { keyed("second", []).enqueue(&mut mine).await.unwrap() });
    app.until_somebody_waits().await;
    open.commit().await.unwrap();
    let second = second.await.unwrap();
    assert!(first < second);
    assert!(!app.job(first).await.blocked && app.job(second).await.blocked);
}

#[tokio::test]
async fn an_enqueue_that_is_open_while_the_head_ends_is_released_afterwards() {
    let app = TestApp::new().await;
    let worker = app.work(8).await;
    let head = app
        .add(keyed("head", [vec![Act::Hold("head".into())]]).row())
        .await;
    app.ledger.reached(Mark::Started, "head", 1).await;
    let mut other = app.connect().await;
    let mut open = other.begin().await.unwrap();
    let next = keyed("next", []).enqueue(&mut open).await.unwrap();
    app.ledger.open("head");
    app.until_state(head, "completed").await;
    open.commit().await.unwrap();
    app.until_state(next, "completed").await;
    app.until_number("SELECT count(*) FROM polar_jobs.key_releases", 0)
        .await;
    worker.stop().await;
}

#[tokio::test]
async fn an_old_snapshot_does_not_make_two_heads() {
    for isolation in ["REPEATABLE READ", "SERIALIZABLE"] {
        let app = TestApp::new().await;
        let mut other = app.connect().await;
        let mut open = other
            .begin_with(sqlx::AssertSqlSafe(format!(
                "BEGIN ISOLATION LEVEL {isolation}"
            )))
            .await
            .unwrap();
        sqlx::query("SELECT 1 FROM polar_jobs.live_jobs")
            .execute(&mut *open)
            .await
            .unwrap();
        let head = app
            .add(keyed("head", [vec![Act::Hold("head".into())]]).row())
            .await;
        let next = enqueue::insert_returning_id(&mut open, &keyed("next", []).row())
            .await
            .unwrap()
            .unwrap();
        open.commit().await.unwrap();
        let worker = app.work(8).await;
        app.ledger.reached(Mark::Started, "head", 1).await;
        let other = app.add(Script::note("other").row()).await;
        app.until_state(other, "completed").await;
        assert!(
            app.job(next).await.blocked,
            "{isolation}: {head} runs, {next} must wait"
        );
        app.ledger.open("head");
        app.until_state(next, "completed").await;
        assert_eq!(
            app.ledger
                .labels(Mark::Started)
                .iter()
                .filter(|label| *label != "other")
                .collect::<Vec<_>>(),
            ["head", "next"]
        );
        worker.stop().await;
    }
}

#[tokio::test]
async fn an_old_snapshot_that_saw_a_head_which_is_gone_does_not_block_for_ever() {
    let app = TestApp::new().await;
    let worker = app.work(8).await;
    let head = app
        .add(keyed("head", [vec![Act::Hold("head".into())]]).row())
        .await;
    app.ledger.reached(Mark::Started, "head", 1).await;
    let mut other = app.connect().await;
    let mut open = other
        .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ")
        .await
        .unwrap();
    sqlx::query("SELECT 1 FROM polar_jobs.live_jobs")
        .execute(&mut *open)
        .await
        .unwrap();
    app.ledger.open("head");
    app.until_state(head, "completed").await;
    let next = enqueue::insert_returning_id(&mut open, &keyed("next", []).row())
        .await
        .unwrap()
        .unwrap();
    open.commit().await.unwrap();
    app.until_state(next, "completed").await;
    worker.stop().await;
}

#[tokio::test]
async fn a_batch_may_mix_ordering_keys_and_unique_keys() {
    let app = TestApp::new().await;
    let later = chrono::Utc::now() + chrono::Duration::hours(1);
    app.add(Script::note("waiting").unique("u").row().at(later))
        .await;
    // The first of the key is merged into the waiting one, so the second has nobody before it.
    let batch = [
        keyed("merged", []).unique("u").row().at(later),
        keyed("second", []).row(),
        keyed("third", []).unique("v").row(),
        keyed("again", []).unique("v").row(),
    ];
    let ids = app.add_all(&batch).await;
    assert_eq!(
        ids.iter().map(Option::is_some).collect::<Vec<_>>(),
        [false, true, true, false]
    );
    let worker = app.work(8).await;
    app.until_state(ids[2].unwrap(), "completed").await;
    // The fourth merged into the third, whose payload has the newcomer's fields since.
    assert_eq!(one_at_a_time(&app), ["second", "again"]);
    worker.stop().await;
}

#[tokio::test]
async fn a_row_that_somebody_holds_does_not_stop_the_one_before_it_from_ending() {
    let app = TestApp::new().await;
    let worker = app.work(1).await;
    let head = app
        .add(keyed("head", [vec![Act::Hold("head".into())]]).row())
        .await;
    app.ledger.reached(Mark::Started, "head", 1).await;
    let next = app.add(keyed("next", []).row()).await;
    let mut operator = app.connect().await;
    let mut open = operator.begin().await.unwrap();
    sqlx::query("UPDATE polar_jobs.jobs SET priority = 5 WHERE id = $1")
        .bind(next)
        .execute(&mut *open)
        .await
        .unwrap();
    app.ledger.open("head");
    app.until_state(head, "completed").await;
    let other = app.add(Script::note("other").row()).await;
    app.until_state(other, "completed").await;
    open.commit().await.unwrap();
    app.until_state(next, "completed").await;
    worker.stop().await;
}

#[tokio::test]
async fn an_open_enqueue_that_noted_its_key_does_not_stop_the_head_from_ending() {
    let app = TestApp::new().await;
    let worker = app.work(1).await;
    let head = app
        .add(keyed("head", [vec![Act::Hold("head".into())]]).row())
        .await;
    app.ledger.reached(Mark::Started, "head", 1).await;
    let mut other = app.connect().await;
    let mut open = other
        .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ")
        .await
        .unwrap();
    let next = keyed("next", []).enqueue(&mut open).await.unwrap();
    app.ledger.open("head");
    app.until_state(head, "completed").await;
    open.commit().await.unwrap();
    app.until_state(next, "completed").await;
    worker.stop().await;
}

#[tokio::test]
async fn ten_thousand_keys_fit_into_one_batch() {
    let app = TestApp::new().await;
    let batch: Vec<_> = (0..10_000)
        .map(|n| Script::note("n").ordered(&format!("key {n}")).row())
        .collect();
    assert_eq!(app.add_all(&batch).await.iter().flatten().count(), 10_000);
}

/// The table is empty every quiet moment, but its statistics are those of the last rush.
#[tokio::test]
async fn a_plan_made_while_the_table_is_empty_does_not_read_all_jobs_for_each_key_later() {
    let app = TestApp::new().await;
    let mut connection = app.connect().await;
    let mut number = 0;
    let mut batch = |size: usize| -> Vec<_> {
        let keyed = (0..size).map(|_| {
            number += 1;
            // As random as the keys of real jobs.
            let key = format!("key/{:x}", number * 2_654_435_761_u64 % (1 << 32));
            Script::note("n").ordered(&key).row()
        });
        keyed.collect()
    };
    app.execute("ALTER TABLE polar_jobs.live_jobs SET (autovacuum_enabled = false)")
        .await;
    for _ in 0..20 {
        enqueue::insert_all(&mut connection, &batch(1000))
            .await
            .unwrap();
    }
    for emptied in [
        "ANALYZE polar_jobs.live_jobs",
        "DELETE FROM polar_jobs.live_jobs",
        "DELETE FROM polar_jobs.key_releases",
        "VACUUM polar_jobs.live_jobs",
    ] {
        app.execute(emptied).await;
    }
    enqueue::insert_all(&mut connection, &batch(500))
        .await
        .unwrap();
    let mut transaction = connection.begin().await.unwrap();
    enqueue::insert_all(&mut transaction, &batch(100))
        .await
        .unwrap();
    let read: i64 = sqlx::query_scalar(
        "SELECT sum(pg_stat_get_xact_tuples_returned(indexrelid))::bigint FROM pg_index
          WHERE indrelid = 'polar_jobs.live_jobs'::regclass",
    )
    .fetch_one(&mut *transaction)
    .await
    .unwrap();
    assert_eq!(read, 0, "nobody has one of these keys");
}
