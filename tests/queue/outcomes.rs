//! What becomes of an event that has several jobs.

use jobs::NewJob;
use polar_jobs::operators::Actor;
use polar_jobs::queue::connect::{Pooler, QueueDatabase};
use polar_jobs::queue::finish::Completion;
use polar_jobs::queue::table::{self, Action};
use sqlx::{Connection, PgConnection};

use crate::script::{Act, Script};
use crate::test_app::{TestApp, complete_and_claim, completion, register};

impl TestApp {
    pub(crate) async fn event(&self) -> i64 {
        self.number("INSERT INTO polar_jobs.stored_events (source, body) VALUES ('polar', '{}') RETURNING id")
            .await
    }

    pub(crate) async fn outcome(&self, event: i64) -> Option<String> {
        sqlx::query_scalar("SELECT outcome FROM polar_jobs.external_events WHERE id = $1")
            .bind(event)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }
}

/// A job of an event that ends so, and is done when it runs again.
fn ending(how: &str, event: i64) -> NewJob {
    let end = match how {
        "applied" => Act::Done,
        "ignored" => Act::Ignored("nothing to do".to_owned()),
        _ => Act::Discard("wrong".to_owned()),
    };
    let acts = [vec![end], vec![Act::Done]];
    Script::new(how, acts).row().caused_by(event)
}

#[tokio::test]
async fn the_worst_end_of_an_events_jobs_counts_whoever_ends_last() {
    const ENDS: [&str; 3] = ["ignored", "applied", "failed"];
    let app = TestApp::new().await;
    let worker = app.work(4).await;
    for (first, one) in ENDS.into_iter().enumerate() {
        for (second, other) in ENDS.into_iter().enumerate() {
            let event = app.event().await;
            app.add(ending(one, event)).await;
            app.until_empty().await;
            assert_eq!(app.outcome(event).await.as_deref(), Some(one));
            app.add(ending(other, event)).await;
            app.until_empty().await;
            assert_eq!(
                app.outcome(event).await.as_deref(),
                Some(ENDS[first.max(second)]),
                "{one}, then {other}"
            );
        }
    }
    worker.stop().await;
}

#[tokio::test]
async fn one_batch_sets_the_outcome_of_every_event_of_every_job_in_it() {
    let app = TestApp::new().await;
    let events = [app.event().await, app.event().await];
    // Both merge into a duplicate that waits, which then answers for both events.
    let duplicates = events.map(|event| {
        let script = Script::note("duplicate").unique("duplicate");
        script.row().caused_by(event)
    });
    app.add_all(&duplicates).await;
    let third = app.event().await;
    app.add(ending("ignored", third)).await;
    app.add(ending("applied", third)).await;
    app.add(Script::note("of no event").row()).await;
    let worker = app.work(8).await;
    app.until_empty().await;
    for event in [events[0], events[1], third] {
        assert_eq!(app.outcome(event).await.as_deref(), Some("applied"));
    }
    worker.stop().await;
}

#[tokio::test]
async fn a_retry_repairs_the_outcome_of_an_event_once_no_other_job_of_it_is_given_up() {
    let app = TestApp::new().await;
    let event = app.event().await;
    let worker = app.work(4).await;
    let one = app.add(ending("failed", event)).await;
    let other = app.add(ending("failed", event)).await;
    app.until_empty().await;

    table::act(&app.pool, &Actor::of_system(), Action::Retry, one)
        .await
        .unwrap();
    app.until_state(one, "completed").await;
    assert_eq!(
        app.outcome(event).await.as_deref(),
        Some("failed"),
        "the other one is still given up"
    );
    table::act(&app.pool, &Actor::of_system(), Action::Retry, other)
        .await
        .unwrap();
    app.until_state(other, "completed").await;
    assert_eq!(app.outcome(event).await.as_deref(), Some("applied"));
    worker.stop().await;
}

struct Holder {
    connection: PgConnection,
    worker: i64,
    done: Vec<Completion>,
}

impl Holder {
    /// Claims a job of each of these events, to be stored in this order.
    async fn of(app: &TestApp, events: &[i64]) -> Self {
        let database = QueueDatabase::new(&app.url, Pooler::None).unwrap();
        let mut connection = database.connect().await.unwrap();
        let worker = register(&mut connection).await;
        let mut done = Vec::new();
        for event in events {
            app.add(ending("applied", *event)).await;
            let claimed = complete_and_claim(&mut connection, worker, &[], 1);
            done.extend(claimed.await.unwrap().iter().map(completion));
        }
        Self {
            connection,
            worker,
            done,
        }
    }

    async fn store(mut self) -> Result<(), sqlx::Error> {
        let stored = complete_and_claim(&mut self.connection, self.worker, &self.done, 0);
        stored.await.map(drop)
    }
}

#[tokio::test]
async fn an_event_that_somebody_holds_holds_up_no_end() {
    let app = TestApp::new().await;
    let event = app.event().await;
    let batch = Holder::of(&app, &[event]).await;
    let mut somebody = app.connect().await;
    let mut open = somebody.begin().await.unwrap();
    sqlx::query("SELECT FROM polar_jobs.external_events WHERE id = $1 FOR UPDATE")
        .bind(event)
        .execute(&mut *open)
        .await
        .unwrap();
    batch.store().await.unwrap();
    assert_eq!(app.outcome(event).await.as_deref(), Some("applied"));
    open.rollback().await.unwrap();
}
