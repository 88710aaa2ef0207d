//! A worker process from its first connection to its last.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jobs::contract::{Registry, Settings};
use jobs::mail::Mailer;
use jobs::mirror::{application, fees};
use sqlx::PgPool;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{JoinError, JoinHandle, JoinSet};

use crate::queue::connect::{ConnectionBudget, QueueDatabase};
use crate::queue::kinds;
use crate::queue::lease::{self, Identity};
use crate::queue::notifier::Notifier;
use crate::queue::runnable;

use super::adapter::{self, QueueRunner};
use super::attempt::{AttemptRunner, Mask};
use super::backoff::Backoff;
use super::catch_up;
use super::completion_buffer::CompletionBuffer;
use super::fetch_connections::FetchConnections;
use super::fetcher::{FetchState, Fetcher, Phase, Shared};
use super::held_jobs::HeldJobs;
use super::housekeeping::Housekeeping;
use super::lease_keeper::{IdleStates, LeaseKeeper, LeaseLost, Retirement};
use super::metrics::{self, AttemptMetrics};
use super::prefetch::Prefetch;
use super::result_sink::ResultSink;
use super::slots::{Slots, Total};
use super::sync_lag::SyncLag;
use crate::schedule::{self, BadSchedule, Timetable};

/// How long the last writes of a stop may take, after the drain timeout: together below the 30 s that
/// process managers wait.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long an aborted attempt may take to end; one that blocks its thread ends with the process.
const ABORT_TIMEOUT: Duration = Duration::from_secs(1);
/// Limits of the housekeeping's statements: none is worth waiting longer for.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// A queue and how many of its jobs may run at once in this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSlots {
    /// The queue.
    pub queue: String,
    /// Its bound.
    pub slots: usize,
}

/// What a worker process needs.
#[derive(Clone)]
pub struct WorkerSettings {
    /// The queue's own connections.
    pub database: QueueDatabase,
    /// How many of them there may be.
    pub connections: ConnectionBudget,
    /// Connections for the jobs' own reading and writing, [`ConnectionBudget::jobs`] of them.
    pub pool: PgPool,
    /// What can be run.
    pub registry: Arc<Registry>,
    /// Polar behind the fleet's rate limiter; `None` while billing is not configured.
    pub polar: Option<polar::Client>,
    /// Takes mails away; `None` without `MAIL_URL`.
    pub mail: Option<Mailer>,
    /// What jobs need to know of the configuration.
    pub settings: Arc<Settings>,
    /// The queues to serve.
    pub queues: Vec<QueueSlots>,
    /// Jobs at once in the whole process.
    pub slots: usize,
    /// End when nothing is runnable.
    pub drain: bool,
    /// How long running jobs may take to end at a stop; then they are requeued.
    pub drain_timeout: Duration,
    /// Replaces configured secrets in whatever is stored.
    pub mask: Mask,
}

impl WorkerSettings {
    fn queue_names(&self) -> Vec<String> {
        let queues = self.queues.iter();
        queues.map(|queue| queue.queue.clone()).collect()
    }

    fn housekeeping_pool(&self) -> PgPool {
        let options = self.database.bounded(STATEMENT_TIMEOUT, LOCK_TIMEOUT);
        let options = options.application_name("polar-jobs housekeeping");
        QueueDatabase::pool(options, self.connections.housekeeping)
    }
}

/// Why a worker process ended otherwise than asked.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// It could not start.
    #[error("the worker could not start: {0}")]
    Start(#[source] sqlx::Error),
    /// A schedule cannot be read.
    #[error(transparent)]
    Schedule(#[from] BadSchedule),
    /// Somebody took it for dead.
    #[error(transparent)]
    LeaseLost(#[from] LeaseLost),
    /// An apalis worker ended.
    #[error("the job runner ended: {0}")]
    Runner(#[from] adapter::Ended),
    /// One of its tasks ended.
    #[error("{0} ended unexpectedly")]
    Task(&'static str),
}

/// Runs a worker until `shutdown` resolves (or nothing is runnable, with `drain`), then stops
/// claiming, lets what runs end, requeues the rest and deletes its row.
///
/// # Errors
/// If it cannot start, loses its lease, or a part of it dies; the process must then exit and be
/// started again by its process manager.
pub async fn run(
    settings: WorkerSettings,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), WorkerError> {
    let timetable = Timetable::of(&settings.registry)?;
    let worker = start(&settings).await.map_err(WorkerError::Start)?;
    tracing::info!(worker, slots = settings.slots, "the worker runs");
    let names = settings.queue_names();
    let pool = settings.housekeeping_pool();
    let (mut lease_keeper, idle, retirement) =
        LeaseKeeper::new(settings.database.clone(), pool.clone(), worker, &names);
    let mut lease_tasks = JoinSet::new();
    let held = lease_keeper.held();
    lease_tasks.spawn(lease_keeper.run());
    // Without an answer the database does not answer, and nothing will be claimed anyway.
    drop(tokio::time::timeout(lease::HEARTBEAT, held).await);

    let (phase, _) = watch::channel(Phase::Running);
    let mut tasks = WorkerTasks::spawn(&settings, worker, &pool, &idle, &phase);
    let mut watching = tasks.spawn_watchers(names.clone(), &pool, &idle);
    if !settings.drain {
        let clock = schedule::run(pool.clone(), timetable, std::future::pending());
        watching.spawn(clock);
    }
    let mut catching_up = JoinSet::new();
    if settings.polar.is_some() {
        catching_up.spawn(catch_up::run(settings.pool.clone(), idle));
    }

    let ended = tokio::select! {
        () = shutdown => Ok(()),
        () = async {
            while catching_up.join_next().await.is_some() {}
            drained(&pool, &names, tasks.quiet.clone(), &tasks.total).await;
        }, if settings.drain => Ok(()),
        kept = lease_tasks.join_next() => Err(lost(kept)),
        ran = &mut tasks.monitor => Err(monitor_ended(ran)),
        _ = tasks.fetchers.join_next() => Err(WorkerError::Task("a fetcher")),
        _ = watching.join_next() => Err(WorkerError::Task("housekeeping, the clock or the metrics")),
    };
    phase.send_replace(Phase::Stopping);
    if matches!(ended, Err(WorkerError::LeaseLost(_))) {
        // Without a lease nothing more may be written; what runs is dropped with the process.
        return ended;
    }
    let drain_timeout = match ended {
        Ok(()) => settings.drain_timeout,
        Err(_) => Duration::ZERO,
    };
    tasks.finish(drain_timeout).await;
    phase.send_replace(Phase::Closing);
    close(tasks, retirement, worker).await;
    ended
}

/// Stores what is left and deletes the worker's row, if the database answers.
async fn close(mut tasks: WorkerTasks, retirement: Retirement, worker: i64) {
    let closed = async {
        while tasks.fetchers.join_next().await.is_some() {}
        if let Err(error) = tasks.shared.connections.recover().await {
            tracing::warn!(%error, "claims without an answer are left for another worker");
        }
        retirement.retire().await;
    };
    match tokio::time::timeout(CLOSE_TIMEOUT, closed).await {
        Ok(()) => tracing::info!(worker, "the worker stopped"),
        Err(_) => tracing::warn!(
            worker,
            "the database does not answer, what is not stored will be reclaimed by another worker"
        ),
    }
}

async fn start(settings: &WorkerSettings) -> Result<i64, sqlx::Error> {
    let mut connection = settings.database.connect().await?;
    kinds::publish(&mut connection, &settings.registry).await?;
    // Before the fees: whoever is to be told of changes hears of these, too.
    application::declare(&mut connection, settings.settings.app_webhook.is_some()).await?;
    fees::declare(&mut connection, settings.settings.platform_fees).await?;
    let identity = Identity {
        host: host_name(),
        pid: i32::try_from(std::process::id()).unwrap_or(0),
        queues: settings.queue_names(),
        slots: settings
            .queues
            .iter()
            .map(|queue| i32::try_from(queue.slots.min(settings.slots)).unwrap_or(i32::MAX))
            .collect(),
    };
    lease::register(&mut connection, &identity).await
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .or_else(|_| std::env::var("HOSTNAME"))
        .unwrap_or_else(|_| "unknown".to_owned())
}

fn lost(kept: Option<Result<Result<(), LeaseLost>, JoinError>>) -> WorkerError {
    match kept {
        Some(Ok(Err(lost))) => lost.into(),
        _ => WorkerError::Task("the lease keeper"),
    }
}

fn monitor_ended(ran: Result<Result<(), adapter::Ended>, JoinError>) -> WorkerError {
    match ran {
        Ok(Err(error)) => error.into(),
        _ => WorkerError::Task("the job runner"),
    }
}

/// Everything that works on jobs.
struct WorkerTasks {
    shared: Arc<Shared>,
    fetchers: JoinSet<()>,
    /// The apalis monitor over the runners of all queues.
    monitor: JoinHandle<Result<(), adapter::Ended>>,
    /// Closed once nothing of any attempt runs any more.
    running: mpsc::Receiver<Infallible>,
    quiet: Vec<watch::Receiver<bool>>,
    total: Arc<Total>,
    slots: Vec<(String, Slots)>,
    sync_lag: Arc<SyncLag>,
}

impl WorkerTasks {
    fn spawn(
        settings: &WorkerSettings,
        worker: i64,
        pool: &PgPool,
        idle: &IdleStates,
        phase: &watch::Sender<Phase>,
    ) -> Self {
        let sync_lag = Arc::new(SyncLag::default());
        let runner = Arc::new(AttemptRunner {
            registry: Arc::clone(&settings.registry),
            polar: settings.polar.clone(),
            mail: settings.mail.clone(),
            pool: settings.pool.clone(),
            settings: Arc::clone(&settings.settings),
            mask: Arc::clone(&settings.mask),
            metrics: AttemptMetrics::new(&settings.registry),
            sync_lag: Arc::clone(&sync_lag),
        });
        let held = Arc::new(HeldJobs::default());
        let fetchers = settings.connections.fetchers;
        let shared = Arc::new(Shared {
            worker,
            connections: FetchConnections::new(&settings.database, worker, &held, fetchers),
            held: Arc::clone(&held),
            phase: phase.subscribe(),
            drain: settings.drain,
        });
        let notifier = Notifier::new(pool.clone(), settings.database.pooler);
        let total = Total::new(settings.slots);
        let permits = Arc::new(Semaphore::new(settings.slots));
        let (tx, running) = mpsc::channel(1);
        let (mut fetchers, mut queues) = (JoinSet::new(), Vec::new());
        let (mut quiet, mut all_slots) = (Vec::new(), Vec::new());
        for queue in &settings.queues {
            let prefetch = Prefetch::new(queue.slots, &permits);
            let slots = Slots::new(&total, queue.slots, prefetch.clone());
            all_slots.push((queue.queue.clone(), slots.clone()));
            let sink = ResultSink {
                worker,
                pool: settings.pool.clone(),
                notifier: notifier.clone(),
                runner: Arc::clone(&runner),
                held: Arc::clone(&held),
                buffer: Arc::new(CompletionBuffer::default()),
                idle: Arc::clone(&idle[&queue.queue]),
                slots,
                drain: settings.drain,
            };
            let (runner, is_quiet) = spawn_fetchers(queue, prefetch, sink, &shared, &mut fetchers);
            queues.push(runner);
            quiet.push(is_quiet);
        }
        Self {
            shared,
            fetchers,
            monitor: tokio::spawn(adapter::run(queues, runner, tx)),
            running,
            quiet,
            total,
            slots: all_slots,
            sync_lag,
        }
    }

    /// Starts what looks after dead workers, due jobs and metrics.
    fn spawn_watchers(&self, queues: Vec<String>, pool: &PgPool, idle: &IdleStates) -> JoinSet<()> {
        let housekeeping = Housekeeping {
            pool: pool.clone(),
            queues,
            shared: Arc::clone(&self.shared),
            idle: idle.clone(),
        };
        let mut watchers = JoinSet::new();
        watchers.spawn(housekeeping.run());
        let (slots, sync_lag) = (self.slots.clone(), Arc::clone(&self.sync_lag));
        watchers.spawn(metrics::watch(pool.clone(), slots, sync_lag));
        watchers
    }

    /// Lets what runs end; after `drain_timeout` the rest is aborted, which requeues it.
    async fn finish(&mut self, drain_timeout: Duration) {
        if self.monitor.is_finished() {
            return;
        }
        if tokio::time::timeout(drain_timeout, &mut self.monitor)
            .await
            .is_err()
        {
            tracing::warn!(
                "jobs still run after {} s, they are aborted and requeued",
                drain_timeout.as_secs()
            );
            self.monitor.abort();
            // A job that blocks its thread cannot be aborted; the end of the process must do.
            drop(tokio::time::timeout(ABORT_TIMEOUT, self.running.recv()).await);
        }
    }
}

impl Drop for WorkerTasks {
    fn drop(&mut self) {
        self.monitor.abort();
    }
}

/// Waits until every queue looked and found nothing while nothing of it ran, and nothing can run now:
/// the last job of one queue may have left another one in a queue that was idle before. A job that was
/// claimed meanwhile is no longer seen to wait, and may have left others: so nothing may be claimed
/// between the two looks at the slots.
async fn drained(
    pool: &PgPool,
    queues: &[String],
    quiet: Vec<watch::Receiver<bool>>,
    total: &Total,
) {
    let mut backoff = Backoff::default();
    loop {
        for mut quiet in quiet.clone() {
            // An error means that the fetcher is gone, which `run` notices itself.
            drop(quiet.wait_for(|quiet| *quiet).await);
        }
        let takes = total.takes_if_unused();
        let asked = async { runnable::any(&mut *pool.acquire().await?, queues).await };
        if takes.is_some()
            && matches!(asked.await, Ok(false))
            && total.takes_if_unused() == takes
            && quiet.iter().all(|quiet| *quiet.borrow())
        {
            return;
        }
        backoff.wait().await;
    }
}

/// Starts the fetchers of a queue. Returns what runs its jobs, and whether it is quiet.
fn spawn_fetchers(
    queue: &QueueSlots,
    prefetch: Prefetch,
    sink: ResultSink,
    shared: &Arc<Shared>,
    fetchers: &mut JoinSet<()>,
) -> (QueueRunner, watch::Receiver<bool>) {
    let (claimed_tx, claimed) = mpsc::unbounded_channel();
    let (quiet_tx, quiet) = watch::channel(false);
    let mut quiet_tx = Some(quiet_tx);
    for number in 0..fetchers_for(queue) {
        let fetcher = Fetcher {
            shared: Arc::clone(shared),
            queue: queue.queue.clone(),
            first: number == 0,
            slots: sink.slots.clone(),
            buffer: Arc::clone(&sink.buffer),
            idle: Arc::clone(&sink.idle),
            claimed: Some(claimed_tx.clone()),
            quiet: quiet_tx.take(),
            state: FetchState::default(),
        };
        fetchers.spawn(fetcher.run());
    }
    let runner = QueueRunner {
        queue: queue.queue.clone(),
        claimed,
        prefetch,
        sink,
    };
    (runner, quiet)
}

/// A second fetcher keeps the database busy while this process runs the first one's jobs.
fn fetchers_for(queue: &QueueSlots) -> usize {
    if queue.queue == "default" && queue.slots >= 16 {
        2
    } else {
        1
    }
}
