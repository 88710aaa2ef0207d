//! A person holds the row of a job that ends: only that job waits.

use jobs::contract::Queue;
use polar_jobs::queue::connect::{Pooler, QueueDatabase};
use polar_jobs::worker::QueueSlots;
use sqlx::{Connection, PgPool};

use crate::ledger::Mark;
use crate::script::{Act, Script};
use crate::test_app::{TestApp, Worker};

async fn hold_up(acts: &dyn Fn(&str) -> Vec<Act>) {
    for pooler in [Pooler::None, Pooler::Transaction] {
        hold_up_behind(pooler, acts).await;
    }
}

async fn hold_up_behind(pooler: Pooler, acts: &dyn Fn(&str) -> Vec<Act>) {
    let app = TestApp::new().await;
    let mut settings = app.settings(8).await;
    settings.database = QueueDatabase::new(&app.url, pooler).unwrap();
    settings.queues = ["default", "mail"]
        .map(|queue| QueueSlots {
            queue: queue.to_owned(),
            slots: 4,
        })
        .to_vec();
    let worker = Worker::start(settings);
    let jobs: Vec<_> = ["a", "b", "c"]
        .map(|label| Script::new(label, [acts("go"), vec![]]).row())
        .to_vec();
    let ids = app.add_all(&jobs).await;
    for label in ["a", "b", "c"] {
        app.ledger.reached(Mark::Started, label, 1).await;
    }
    let held = ids[1].unwrap();
    let mut person = app.connect().await;
    let mut open = person.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM polar_jobs.live_jobs WHERE id = $1 FOR UPDATE")
        .bind(held)
        .execute(&mut *open)
        .await
        .unwrap();
    app.ledger.open("go");
    for id in [ids[0], ids[2]] {
        let ended = "SELECT count(*) FROM polar_jobs.jobs WHERE state <> 'running' AND id = ";
        app.until_number(&format!("{ended}{}", id.unwrap()), 1)
            .await;
    }
    // One after the other, on both queues: twenty that wait for the lock's timeout each would take longer. Behind a pooler
    // nobody hears of a job before the next poll, so there it only shows that each comes to its end.
    let (rounds, longest) = match pooler {
        Pooler::None => (20, 5),
        Pooler::Transaction => (4, 60),
    };
    let begun = std::time::Instant::now();
    for round in 0..rounds {
        let queue = if round % 2 == 0 {
            Queue::Default
        } else {
            Queue::Mail
        };
        let id = app
            .add(Script::note(&round.to_string()).row_in(queue))
            .await;
        app.execute(&format!("NOTIFY polar_jobs, '{}'", queue.name()))
            .await;
        app.until_state(id, "completed").await;
    }
    assert!(begun.elapsed().as_secs() < longest, "{:?}", begun.elapsed());
    let row = app.job(held).await;
    assert_eq!((row.state.as_str(), row.attempt), ("running", 1));
    open.commit().await.unwrap();
    app.until_number(
        &format!("SELECT count(*) FROM polar_jobs.jobs WHERE state <> 'running' AND id = {held}"),
        1,
    )
    .await;
    assert_eq!(app.job(held).await.attempt, 1, "it ran once");
    worker.stop().await;
}

#[tokio::test]
async fn a_held_row_of_a_completed_job_holds_up_no_other() {
    hold_up(&|latch| vec![Act::Hold(latch.into())]).await;
}

#[tokio::test]
async fn a_held_row_of_a_discarded_job_holds_up_no_other() {
    hold_up(&|latch| vec![Act::Hold(latch.into()), Act::Discard("no".into())]).await;
}

#[tokio::test]
async fn a_held_row_of_a_job_that_waits_again_holds_up_no_other() {
    hold_up(&|latch| vec![Act::Hold(latch.into()), Act::Snooze(3600.0)]).await;
}

#[tokio::test]
async fn a_held_row_of_a_job_with_local_writes_does_not_keep_its_connection_from_others() {
    let app = TestApp::new().await;
    let mut settings = app.settings(4).await;
    settings.pool = QueueDatabase::pool(settings.database.plain(), 1);
    let worker = Worker::start(settings);
    let writing = |label: &str| {
        let acts = vec![Act::Hold("go".into()), Act::Write(label.into())];
        Script::new(label, [acts]).row()
    };
    let held = app.add(writing("held")).await;
    app.ledger.reached(Mark::Started, "held", 1).await;
    let mut person = app.connect().await;
    let mut open = person.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM polar_jobs.live_jobs WHERE id = $1 FOR UPDATE")
        .bind(held)
        .execute(&mut *open)
        .await
        .unwrap();
    app.ledger.open("go");
    app.ledger.reached(Mark::Ended, "held", 1).await;
    let other = app.add(writing("other")).await;
    let row = app.until_state(other, "completed").await;
    assert_eq!((row.attempt, row.failures()), (1, 0));
    open.commit().await.unwrap();
    // Its writes were rolled back, so it runs again; nothing is charged.
    let row = app.until_state(held, "completed").await;
    assert_eq!((row.attempt, row.failures()), (2, 0));
    let written =
        "SELECT count(*) FROM polar_jobs.schedule_ticks WHERE schedule IN ('held', 'other')";
    assert_eq!(app.number(written).await, 2);
    worker.stop().await;
}

/// Behind a pooler nothing can be set in a session, and a database may have defaults of its own.
#[tokio::test]
async fn a_transaction_of_ours_has_its_limit_and_its_isolation_whatever_the_session_says() {
    let app = TestApp::new().await;
    app.execute("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = serializable', current_database()); END $$")
        .await;
    let pool = PgPool::connect(&app.url).await.unwrap();
    let mut transaction = jobs::contract::begin(&pool).await.unwrap();
    let settings: (String, String) = sqlx::query_as(
        "SELECT current_setting('transaction_isolation'), current_setting('idle_in_transaction_session_timeout')",
    )
    .fetch_one(&mut *transaction)
    .await
    .unwrap();
    assert_eq!(settings, ("read committed".into(), "30s".into()));
    transaction.rollback().await.unwrap();
    let after = "SELECT current_setting('idle_in_transaction_session_timeout')";
    let after: String = sqlx::query_scalar(after).fetch_one(&pool).await.unwrap();
    assert_eq!(after, "0", "the session is left as it was");
}

/// Each of them would wait for the lock's timeout: longer together than any statement of a worker may take.
#[tokio::test]
async fn hundreds_of_held_rows_that_returning_jobs_need_hold_up_no_other() {
    const MANY: usize = 300;
    let app = TestApp::new().await;
    let mut settings = app.settings(MANY + 4).await;
    settings.queues = [("default", MANY / 2), ("bulk", MANY / 2), ("mail", 4)]
        .map(|(queue, slots)| QueueSlots {
            queue: queue.to_owned(),
            slots,
        })
        .to_vec();
    let worker = Worker::start(settings);
    let keyed = |n: usize, acts: Vec<Vec<Act>>| {
        let key = format!("key {n}");
        // Both queues, so that both connections of the fetchers are needed.
        let queue = [Queue::Default, Queue::Bulk][n % 2];
        Script::new("many", acts)
            .unique(&key)
            .ordered(&key)
            .row_in(queue)
    };
    let returning = || vec![vec![Act::Hold("go".into()), Act::Snooze(3600.0)], vec![]];
    let running: Vec<_> = (0..MANY).map(|n| keyed(n, returning())).collect();
    app.add_all(&running).await;
    app.ledger.reached(Mark::Started, "many", MANY).await;
    let news: Vec<_> = (0..MANY).map(|n| keyed(n, vec![])).collect();
    app.add_all(&news).await;
    let mut person = app.connect().await;
    let mut open = person.begin().await.unwrap();
    sqlx::query("SELECT FROM polar_jobs.live_jobs WHERE blocked FOR UPDATE")
        .execute(&mut *open)
        .await
        .unwrap();
    app.ledger.open("go");
    app.ledger.reached(Mark::Ended, "many", MANY).await;
    let begun = std::time::Instant::now();
    for round in 0..5 {
        let note = Script::note(&round.to_string()).row_in(Queue::Mail);
        let id = app.add(note).await;
        app.execute("NOTIFY polar_jobs, 'mail'").await;
        app.until_state(id, "completed").await;
    }
    assert!(begun.elapsed().as_secs() < 12, "{:?}", begun.elapsed());
    open.commit().await.unwrap();
    app.until_number(
        "SELECT count(*) FROM polar_jobs.jobs WHERE state = 'running'",
        0,
    )
    .await;
    worker.stop().await;
}

#[tokio::test]
async fn hundreds_of_held_rows_that_notes_are_about_keep_no_other_key_blocked() {
    const MANY: usize = 200;
    let app = TestApp::new().await;
    let keyed = |n: usize| {
        let key = format!("key {n}");
        Script::note("held").unique(&key).ordered(&key).row()
    };
    let jobs: Vec<_> = (0..MANY).map(keyed).collect();
    app.add_all(&jobs).await;
    let mut person = app.connect().await;
    let mut open = person.begin().await.unwrap();
    sqlx::query("UPDATE polar_jobs.jobs SET run_at = now() + interval '1 hour'")
        .execute(&mut *open)
        .await
        .unwrap();
    app.add_all(&jobs).await;
    let noted = app
        .number("SELECT count(*) FROM polar_jobs.key_releases")
        .await;
    assert_eq!(noted, i64::try_from(MANY).unwrap());
    // At this isolation level nobody but the releaser can tell whether it is the head of its key.
    let mut application = app.connect().await;
    let mut other = application
        .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ")
        .await
        .unwrap();
    let free = Script::note("free").ordered("free");
    let free = free.enqueue(&mut other).await.unwrap();
    other.commit().await.unwrap();
    let worker = app.work(4).await;
    app.until_state(free, "completed").await;
    open.rollback().await.unwrap();
    app.until_number("SELECT count(*) FROM polar_jobs.key_releases", 0)
        .await;
    worker.stop().await;
}
