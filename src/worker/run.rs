//! A worker process from its first connection to its last.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use apalis_core::monitor::MonitorError;
use jobs::contract::{Registry, Settings};
use jobs::mirror::fees;
use sqlx::PgPool;
use tokio::sync::{RwLock, Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use crate::queue::bell::Bell;
use crate::queue::connect::QueueDatabase;
use crate::queue::kinds;
use crate::queue::lease::{self, Identity};
use crate::queue::runnable;

use super::acknowledge::AcknowledgeLayer;
use super::attempt::{Mask, Runner};
use super::backend::LaneBackend;
use super::catch_up;
use super::desk::Desk;
use super::keeper::{Bed, Keeper, LeaseLost};
use super::lane::{Lane, Phase, Shared};
use super::meters;
use super::monitor::{self, Post};
use super::patience::Patience;
use super::reach::Reach;
use super::rescuer;
use super::settle::Settler;
use super::slots::{Slots, Total};
use crate::schedule::{self, BadSchedule, Timetable};

/// How long the end of a stop may take, after the patience with what runs: together below the 30 s
/// that process managers wait.
const LAST_WORDS: Duration = Duration::from_secs(3);

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
    /// Connections for the jobs' own reading and writing.
    pub pool: PgPool,
    /// What can be run.
    pub registry: Arc<Registry>,
    /// Polar behind the fleet's gate; `None` while billing is not configured.
    pub polar: Option<polar::Client>,
    /// What jobs need to know of the configuration.
    pub settings: Arc<Settings>,
    /// The queues to serve.
    pub queues: Vec<QueueSlots>,
    /// Jobs at once in the whole process.
    pub slots: usize,
    /// End when nothing is runnable.
    pub drain: bool,
    /// How long running jobs may take to end at a stop; then they are handed back.
    pub patience: Duration,
    /// Replaces configured secrets in whatever is stored.
    pub mask: Mask,
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
    Runner(#[from] MonitorError),
    /// One of its tasks ended.
    #[error("{0} ended unexpectedly")]
    Task(&'static str),
}

/// Runs a worker until `shutdown` resolves (or nothing is runnable, with `drain`), then stops
/// claiming, lets what runs end, hands back the rest and takes its row away.
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
    let names: Vec<String> = settings
        .queues
        .iter()
        .map(|queue| queue.queue.clone())
        .collect();
    let (mut keeper, beds, retirement) = Keeper::new(settings.database.clone(), worker, &names);
    let mut keeping = JoinSet::new();
    let held = keeper.held();
    keeping.spawn(keeper.run());
    // Without an answer the database does not answer, and nothing will be claimed anyway.
    drop(tokio::time::timeout(lease::HEARTBEAT, held).await);
    let mut watching = JoinSet::new();
    watching.spawn(rescuer::run(
        settings.database.clone(),
        worker,
        beds.clone(),
    ));

    watching.spawn(meters::watch_delays(settings.pool.clone()));
    if !settings.drain {
        watching.spawn(schedule::run(
            settings.pool.clone(),
            timetable,
            std::future::pending(),
        ));
    }

    let mut catching_up = JoinSet::new();
    if settings.polar.is_some() {
        catching_up.spawn(catch_up::run(settings.pool.clone(), beds.clone()));
    }

    let (phase, _) = watch::channel(Phase::Running);
    let mut crew = Crew::hire(&settings, worker, &beds, &phase);
    let ended = tokio::select! {
        () = shutdown => Ok(()),
        () = async {
            while catching_up.join_next().await.is_some() {}
            drained(&settings.database, &names, crew.idle.clone()).await;
        }, if settings.drain => Ok(()),
        kept = keeping.join_next() => Err(lost(kept)),
        ran = &mut crew.runner => Err(runner_ended(ran)),
        _ = crew.lanes.join_next() => Err(WorkerError::Task("a lane")),
        _ = watching.join_next() => Err(WorkerError::Task("the rescuer, the clock or the meters")),
    };
    phase.send_replace(Phase::Stopping);
    let ended = match ended {
        // Without a lease nothing more may be written; what runs is dropped with the process.
        Err(error @ WorkerError::LeaseLost(_)) => return Err(error),
        Err(error) => {
            crew.finish(Duration::ZERO).await;
            Err(error)
        }
        Ok(()) => {
            crew.finish(settings.patience).await;
            Ok(())
        }
    };
    phase.send_replace(Phase::Closing);
    let last_words = async {
        while crew.lanes.join_next().await.is_some() {}
        retirement.retire().await;
    };
    match tokio::time::timeout(LAST_WORDS, last_words).await {
        Ok(()) => tracing::info!(worker, "the worker stopped"),
        Err(_) => tracing::warn!(
            worker,
            "the database does not answer, what is not stored will be taken back by another worker"
        ),
    }
    ended
}

async fn start(settings: &WorkerSettings) -> Result<i64, sqlx::Error> {
    let mut connection = settings.database.connect().await?;
    kinds::publish(&mut connection, &settings.registry).await?;
    fees::declare(&mut connection, settings.settings.platform_fees).await?;
    let identity = Identity {
        host: host_name(),
        pid: i32::try_from(std::process::id()).unwrap_or(0),
        queues: settings
            .queues
            .iter()
            .map(|queue| queue.queue.clone())
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

fn lost(kept: Option<Result<Result<(), LeaseLost>, tokio::task::JoinError>>) -> WorkerError {
    match kept {
        Some(Ok(Err(lost))) => lost.into(),
        _ => WorkerError::Task("the lease keeper"),
    }
}

fn runner_ended(ran: Result<Result<(), MonitorError>, tokio::task::JoinError>) -> WorkerError {
    match ran {
        Ok(Err(error)) => error.into(),
        _ => WorkerError::Task("the job runner"),
    }
}

/// Everybody who works on jobs.
struct Crew {
    lanes: JoinSet<()>,
    runner: tokio::task::JoinHandle<Result<(), MonitorError>>,
    idle: Vec<watch::Receiver<bool>>,
}

impl Crew {
    fn hire(
        settings: &WorkerSettings,
        worker: i64,
        beds: &HashMap<String, Arc<Bed>>,
        phase: &watch::Sender<Phase>,
    ) -> Self {
        let runner = Arc::new(Runner {
            registry: Arc::clone(&settings.registry),
            polar: settings.polar.clone(),
            pool: settings.pool.clone(),
            settings: Arc::clone(&settings.settings),
            mask: Arc::clone(&settings.mask),
        });
        let shared = Arc::new(Shared {
            database: settings.database.clone(),
            pool: settings.pool.clone(),
            worker,
            bell: Bell::new(&settings.database),
            runner: Arc::clone(&runner),
            claiming: RwLock::new(()),
            phase: phase.subscribe(),
            drain: settings.drain,
        });
        let total = Total::new(settings.slots);
        let seats = Arc::new(Semaphore::new(settings.slots));
        let (mut lanes, mut posts, mut idle) = (JoinSet::new(), Vec::new(), Vec::new());
        for queue in &settings.queues {
            let desk = Arc::new(Desk::default());
            let (claimed, receiver) = mpsc::unbounded_channel();
            let (idle_sender, idle_receiver) = watch::channel(false);
            let mut idle_sender = Some(idle_sender);
            let reach = Reach::new(queue.slots, &seats);
            let slots = Slots::new(&total, queue.slots, reach.clone());
            for number in 0..lanes_for(queue) {
                let lane = Lane {
                    shared: Arc::clone(&shared),
                    queue: queue.queue.clone(),
                    first: number == 0,
                    slots: slots.clone(),
                    desk: Arc::clone(&desk),
                    bed: Arc::clone(&beds[&queue.queue]),
                    claimed: Some(claimed.clone()),
                    idle: idle_sender.take(),
                };
                lanes.spawn(lane.run());
            }
            idle.push(idle_receiver);
            let acknowledge = AcknowledgeLayer {
                settler: Settler {
                    shared: Arc::clone(&shared),
                    desk,
                    bed: Arc::clone(&beds[&queue.queue]),
                    slots: slots.clone(),
                },
                runner: Arc::clone(&runner),
            };
            posts.push(Post {
                queue: queue.queue.clone(),
                backend: LaneBackend {
                    claimed: receiver,
                    acknowledge,
                },
                reach,
            });
        }
        let runner = tokio::spawn(monitor::run(posts, runner));
        Self {
            lanes,
            runner,
            idle,
        }
    }

    /// Lets what runs end; after `patience` the rest is dropped, which hands it back.
    async fn finish(&mut self, patience: Duration) {
        if self.runner.is_finished() {
            return;
        }
        if tokio::time::timeout(patience, &mut self.runner)
            .await
            .is_err()
        {
            tracing::warn!(
                "jobs still run after {} s, handing them back",
                patience.as_secs()
            );
            self.runner.abort();
            // A job that blocks its thread cannot be dropped; the end of the process must do.
            drop(tokio::time::timeout(Duration::from_secs(1), &mut self.runner).await);
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.runner.abort();
    }
}

/// Waits until every queue looked and found nothing while nothing of it ran, and nothing can run now:
/// the last job of one queue may have left another one in a queue that was idle before.
async fn drained(database: &QueueDatabase, queues: &[String], idle: Vec<watch::Receiver<bool>>) {
    let mut patience = Patience::default();
    loop {
        for mut idle in idle.clone() {
            // An error means that the lane is gone, which `run` notices itself.
            drop(idle.wait_for(|idle| *idle).await);
        }
        let asked = async { runnable::any(&mut database.connect().await?, queues).await };
        let quiet = matches!(asked.await, Ok(false));
        if quiet && idle.iter().all(|idle| *idle.borrow()) {
            return;
        }
        patience.wait().await;
    }
}

/// A second lane keeps the database busy while this process runs the first one's jobs.
fn lanes_for(queue: &QueueSlots) -> usize {
    if queue.queue == "default" && queue.slots >= 16 {
        2
    } else {
        1
    }
}
