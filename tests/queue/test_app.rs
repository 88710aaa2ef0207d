//! A database, workers on it, and queries of its tables.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jobs::NewJob;
use jobs::contract::Settings;
use polar_jobs::queue::claim::{self, ClaimFrom, ClaimRecord, ClaimRequest, Claimed};
use polar_jobs::queue::connect::{ConnectionBudget, Pooler, QueueDatabase};
use polar_jobs::queue::finish::Completion;
use polar_jobs::queue::lease::{self, Identity};
use polar_jobs::queue::{enqueue, recovery};
use polar_jobs::worker::{self, QueueSlots, WorkerError, WorkerSettings};
use private_postgres::testing;
use serde_json::Value;
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection, PgConnection, PgPool};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::ledger::{DEADLINE, Ledger};
use super::script;

pub(crate) struct TestApp {
    pub(crate) url: String,
    pub(crate) pool: PgPool,
    pub(crate) ledger: Arc<Ledger>,
}

/// Registers a worker that only the test moves.
pub(crate) async fn register(connection: &mut PgConnection) -> i64 {
    let identity = Identity {
        host: "here".to_owned(),
        pid: 1,
        queues: vec!["default".to_owned()],
        slots: vec![4],
    };
    lease::register(connection, &identity).await.unwrap()
}

/// A job that was done, where it was claimed.
pub(crate) fn completion(job: &Claimed) -> Completion {
    Completion {
        id: job.id,
        attempt: job.attempt,
        ctid: job.ctid,
        ignored: None,
    }
}

/// A row of the view `jobs`.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct Row {
    pub(crate) id: i64,
    pub(crate) state: String,
    pub(crate) attempt: i32,
    pub(crate) errors: Value,
    pub(crate) note: Option<String>,
    pub(crate) outcome: Option<String>,
    pub(crate) worker: Option<i64>,
    pub(crate) blocked: bool,
    pub(crate) unique_key: Option<String>,
    pub(crate) events: Option<Vec<i64>>,
    /// Seconds from now until it may run.
    pub(crate) wait: f64,
    pub(crate) payload: Value,
}

impl Row {
    pub(crate) fn failures(&self) -> usize {
        self.errors.as_array().unwrap().len()
    }

    pub(crate) fn last_error(&self) -> &str {
        self.errors.as_array().unwrap().last().unwrap()["error"]
            .as_str()
            .unwrap()
    }
}

impl TestApp {
    pub(crate) async fn new() -> Self {
        let database = private_postgres::testing::database(polar_jobs::migrate::migrator).await;
        Self::at(&database.url).await
    }

    pub(crate) async fn at(url: &str) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(10)
            .connect(url)
            .await
            .unwrap();
        let ledger = Ledger::of(&pool.connect_options());
        Self {
            url: url.to_owned(),
            pool,
            ledger,
        }
    }

    /// A worker of `default` with the product's settings.
    pub(crate) async fn settings(&self, slots: usize) -> WorkerSettings {
        settings(&self.url, slots).await
    }

    pub(crate) async fn work(&self, slots: usize) -> Worker {
        Worker::start(self.settings(slots).await)
    }

    pub(crate) async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
    }

    pub(crate) async fn add(&self, job: NewJob) -> i64 {
        self.offer(job).await.expect("no duplicate waits")
    }

    pub(crate) async fn offer(&self, job: NewJob) -> Option<i64> {
        let mut connection = self.pool.acquire().await.unwrap();
        enqueue::insert_returning_id(&mut connection, &job)
            .await
            .unwrap()
    }

    pub(crate) async fn add_all(&self, jobs: &[NewJob]) -> Vec<Option<i64>> {
        let mut connection = self.pool.acquire().await.unwrap();
        enqueue::insert_all(&mut connection, jobs).await.unwrap()
    }

    pub(crate) async fn job(&self, id: i64) -> Row {
        self.find(id)
            .await
            .unwrap_or_else(|| panic!("job {id} vanished"))
    }

    pub(crate) async fn find(&self, id: i64) -> Option<Row> {
        // What is seen may have been committed after the `now()` of whoever sees it.
        sqlx::query_as(
            "SELECT id, state, attempt, errors, note, outcome, worker, blocked, unique_key, events, payload,
                    extract(epoch FROM run_at - clock_timestamp())::float8 AS wait
               FROM polar_jobs.jobs WHERE id = $1",
        )
        .bind(id)
        .fetch_optional(&self.pool)
        .await
        .unwrap()
    }

    /// Waits until a job is in this state.
    pub(crate) async fn until_state(&self, id: i64, state: &str) -> Row {
        eventually_some(&format!("job {id} is {state}"), || async {
            let row = self.job(id).await;
            (row.state == state)
                .then_some(row)
                .ok_or(format!("{:?}", self.find(id).await))
        })
        .await
    }

    /// Waits until a job went back to waiting after its attempt number `attempt`.
    pub(crate) async fn until_returned(&self, id: i64, attempt: i32) -> Row {
        eventually_some(&format!("job {id} waits again"), || async {
            let row = self.job(id).await;
            (row.state == "available" && row.attempt == attempt)
                .then_some(row)
                .ok_or(String::new())
        })
        .await
    }

    /// Makes a waiting job due, through the view that operators use.
    pub(crate) async fn due_now(&self, id: i64) {
        self.execute(&format!(
            "UPDATE polar_jobs.jobs SET run_at = now() WHERE id = {id}"
        ))
        .await;
    }

    pub(crate) async fn execute(&self, statement: &str) -> u64 {
        sqlx::query(sqlx::AssertSqlSafe(statement))
            .execute(&self.pool)
            .await
            .unwrap()
            .rows_affected()
    }

    pub(crate) async fn number(&self, statement: &str) -> i64 {
        sqlx::query_scalar(sqlx::AssertSqlSafe(statement))
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    /// Waits until a number is as expected.
    pub(crate) async fn until_number(&self, statement: &str, expected: i64) {
        eventually_some(statement, || async {
            let number = self.number(statement).await;
            if number == expected {
                Ok(())
            } else {
                Err(format!("{number}, not {expected}"))
            }
        })
        .await;
    }

    /// Waits until nobody waits and nobody runs.
    pub(crate) async fn until_empty(&self) {
        self.until_number("SELECT count(*) FROM polar_jobs.live_jobs", 0)
            .await;
    }

    /// Waits until a session of this kind (by application name) is there; its process.
    pub(crate) async fn session(&self, name: &str) -> i32 {
        eventually_some(&format!("a session of \"{name}\""), || async {
            sqlx::query_scalar("SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1")
                .bind(name)
                .fetch_optional(&self.pool)
                .await
                .unwrap()
                .ok_or(String::new())
        })
        .await
    }

    /// Waits until a worker is idle on `default`.
    pub(crate) async fn until_asleep(&self) {
        self.until_number(
            "SELECT polar_jobs.anyone_is_idle('default')::int::bigint",
            1,
        )
        .await;
    }

    /// Waits until a backend waits for a lock that another one holds.
    pub(crate) async fn until_somebody_waits(&self) {
        eventually_some("somebody waits for a lock", || async {
            match testing::sessions_waiting_for_a_lock(&self.pool).await {
                1 => Ok(()),
                other => Err(format!("{other} wait")),
            }
        })
        .await;
    }
}

pub(crate) async fn settings(url: &str, slots: usize) -> WorkerSettings {
    let pool = PgPoolOptions::new()
        .max_connections(10)
        .connect(url)
        .await
        .unwrap();
    WorkerSettings {
        database: QueueDatabase::new(url, Pooler::None).unwrap(),
        connections: ConnectionBudget::of(10),
        pool,
        registry: Arc::new(script::registry()),
        polar: None,
        mail: None,
        settings: Arc::new(Settings::default()),
        queues: vec![QueueSlots {
            queue: "default".to_owned(),
            slots,
        }],
        slots,
        drain: false,
        drain_timeout: Duration::from_secs(25),
        mask: Arc::new(|text| text.replace("polar_secret", "***")),
    }
}

/// A worker that runs in this process.
pub(crate) struct Worker {
    stop: Option<oneshot::Sender<()>>,
    stopping: Arc<AtomicBool>,
    task: JoinHandle<Result<(), WorkerError>>,
}

impl Worker {
    pub(crate) fn start(settings: WorkerSettings) -> Self {
        let (stop, stopped) = oneshot::channel();
        let stopping = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stopping);
        let shutdown = async move {
            drop(stopped.await);
            seen.store(true, Ordering::SeqCst);
        };
        Self {
            stop: Some(stop),
            stopping,
            task: tokio::spawn(async {
                let ended = worker::run(settings, shutdown).await;
                if let Err(error) = &ended {
                    eprintln!("a worker ended: {error}");
                }
                ended
            }),
        }
    }

    /// What SIGTERM does.
    pub(crate) fn ask_to_stop(&mut self) {
        drop(self.stop.take());
    }

    /// Waits until it knows that it should stop.
    pub(crate) async fn until_stopping(&self) {
        let seen = || async {
            self.stopping
                .load(Ordering::SeqCst)
                .then_some(())
                .ok_or(String::new())
        };
        eventually_some("it stops", seen).await;
    }

    pub(crate) async fn stop(mut self) {
        self.ask_to_stop();
        self.end().await.unwrap();
    }

    pub(crate) async fn end(&mut self) -> Result<(), WorkerError> {
        tokio::time::timeout(DEADLINE, &mut self.task)
            .await
            .expect("the worker ends in time")
            .unwrap()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.task.is_finished()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Looks until it is so.
pub(crate) async fn eventually_some<T, F: Future<Output = Result<T, String>>>(
    what: &str,
    look: impl Fn() -> F,
) -> T {
    let begun = std::time::Instant::now();
    loop {
        match look().await {
            Ok(found) => return found,
            Err(state) if begun.elapsed() > DEADLINE => {
                panic!("{what}: not within {DEADLINE:?}; now {state}")
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Completes and claims by hand, as a worker's one fetch connection does.
pub(crate) async fn complete_and_claim(
    connection: &mut PgConnection,
    worker: i64,
    done: &[Completion],
    limit: usize,
) -> Result<Vec<Claimed>, sqlx::Error> {
    recovery::begin_epoch(connection, worker, 0, 1).await?;
    let held: Vec<i64> =
        sqlx::query_scalar("SELECT id FROM polar_jobs.live_jobs WHERE worker = $1")
            .bind(worker)
            .fetch_all(&mut *connection)
            .await?;
    let record = ClaimRecord {
        worker,
        fetcher: 0,
        epoch: 1,
        turn: 1,
        held: &held,
    };
    claim::complete_and_claim(connection, &claim_from_head(record, done, limit)).await
}

/// A claim from the head of the default queue.
pub(crate) fn claim_from_head<'a>(
    record: ClaimRecord<'a>,
    completions: &'a [Completion],
    limit: usize,
) -> ClaimRequest<'a> {
    ClaimRequest {
        record,
        queue: "default",
        completions,
        limit,
        from: ClaimFrom::Head,
    }
}
