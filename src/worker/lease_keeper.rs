//! Keeps the lease in a task and on a connection of its own, so that no amount of work can starve the
//! heartbeat. The same connection listens for notifications and holds the locks of idle queues: its end
//! is seen at once, and everything that it held is taken again at once.
//!
//! If the row is gone, another process took this one's jobs over: it must stop.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jobs::contract::in_time;
use sqlx::PgPool;
use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{MissedTickBehavior, timeout};

use crate::queue::connect::QueueDatabase;
use crate::queue::{idle, lease};

use super::backoff::Backoff;

/// How long a fetcher waits until its queue is known to be idle; the lease keeper may be reconnecting.
const MARK_TIMEOUT: Duration = Duration::from_millis(500);
/// A heartbeat, or a command, that hangs is worse than one that fails.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a new session may take before the worker says that it has none: see [`LONGEST_BACKOFF`].
const PROMPT_SESSION: Duration = Duration::from_secs(1);
/// Between two tries to take the lease again, however many failed: others believe that this process is dead
/// when its lock has been free for two and a half seconds, and connecting takes its time too.
const LONGEST_BACKOFF: Duration = Duration::from_millis(500);

/// The queues of a process, by name.
pub(super) type IdleStates = HashMap<String, Arc<IdleState>>;

/// Whether others need to notify this process of jobs for a queue, and how its fetcher is woken.
#[derive(Debug)]
pub(super) struct IdleState {
    queue: String,
    idle: AtomicBool,
    woken: Notify,
    lease_keeper: mpsc::UnboundedSender<LeaseCommand>,
}

#[derive(Debug)]
enum LeaseCommand {
    MarkIdle(String, oneshot::Sender<()>),
    MarkBusy(String),
    Retire(oneshot::Sender<()>),
}

impl IdleState {
    /// Asks to be notified. True if that was not so before: look once more for jobs.
    pub(super) async fn mark_idle(&self) -> bool {
        if self.idle.swap(true, Ordering::AcqRel) {
            return false;
        }
        let (tx, rx) = oneshot::channel();
        // Without a lease keeper (it is reconnecting, or a pooler is in between) polling must do.
        let sent = self
            .lease_keeper
            .send(LeaseCommand::MarkIdle(self.queue.clone(), tx))
            .is_ok();
        sent && matches!(timeout(MARK_TIMEOUT, rx).await, Ok(Ok(())))
    }

    /// Says that nobody needs to notify us.
    pub(super) fn mark_busy(&self) {
        if self.idle.swap(false, Ordering::AcqRel) {
            // A closed channel means that the process is ending.
            drop(
                self.lease_keeper
                    .send(LeaseCommand::MarkBusy(self.queue.clone())),
            );
        }
    }

    /// Whether the queue's fetchers found it empty; else they look for jobs by themselves.
    pub(super) fn is_idle(&self) -> bool {
        self.idle.load(Ordering::Acquire)
    }

    /// Waits for a wake-up.
    pub(super) async fn woken(&self) {
        self.woken.notified().await;
    }

    /// Wakes the queue's first fetcher.
    pub(super) fn wake(&self) {
        self.woken.notify_one();
    }

    /// The mark was a lock of a connection that is lost, and so are notifications sent meanwhile: the fetcher is woken to
    /// look for jobs.
    fn reset(&self) {
        self.idle.store(false, Ordering::Release);
        self.wake();
    }
}

/// See the module.
pub(super) struct LeaseKeeper {
    database: QueueDatabase,
    /// Other connections, for where a new session cannot be had.
    pool: PgPool,
    worker: i64,
    commands: mpsc::UnboundedReceiver<LeaseCommand>,
    idle: IdleStates,
    /// Answered once the lease is held.
    held: Option<oneshot::Sender<()>>,
}

/// Asks the lease keeper to take the worker's row away at a clean stop.
pub(super) struct Retirement(mpsc::UnboundedSender<LeaseCommand>);

impl Retirement {
    /// Waits until it is done, or the lease keeper is gone.
    pub(super) async fn retire(self) {
        let (tx, rx) = oneshot::channel();
        if self.0.send(LeaseCommand::Retire(tx)).is_ok() {
            drop(rx.await);
        }
    }
}

/// The row is gone.
#[derive(Debug, thiserror::Error)]
#[error(
    "worker {0} lost its lease: another process took its jobs over; this one must be started again"
)]
pub struct LeaseLost(pub i64);

enum Ended {
    Retired,
    Lost,
}

impl LeaseKeeper {
    pub(super) fn new(
        database: QueueDatabase,
        pool: PgPool,
        worker: i64,
        queues: &[String],
    ) -> (Self, IdleStates, Retirement) {
        let (tx, commands) = mpsc::unbounded_channel();
        let state = |queue: &String| {
            let state = IdleState {
                queue: queue.clone(),
                idle: AtomicBool::new(false),
                woken: Notify::new(),
                lease_keeper: tx.clone(),
            };
            (queue.clone(), Arc::new(state))
        };
        let idle: IdleStates = queues.iter().map(state).collect();
        let lease_keeper = Self {
            database,
            pool,
            worker,
            commands,
            idle: idle.clone(),
            held: None,
        };
        (lease_keeper, idle, Retirement(tx))
    }

    /// Resolves once the lease and the session lock are held, or the lease keeper is gone: a worker that
    /// claims before could only be reclaimed when its lease has run out.
    pub(super) fn held(&mut self) -> oneshot::Receiver<()> {
        let (tx, rx) = oneshot::channel();
        self.held = Some(tx);
        rx
    }

    /// Keeps the lease until it is lost or retired.
    pub(super) async fn run(mut self) -> Result<(), LeaseLost> {
        let mut backoff = Backoff::up_to(LONGEST_BACKOFF);
        loop {
            match self.keep().await {
                Ok(Ended::Retired) => return Ok(()),
                Ok(Ended::Lost) => return Err(LeaseLost(self.worker)),
                Err(error) => {
                    tracing::warn!(worker = self.worker, %error, "the connection of the lease was lost, taking it again");
                    self.idle.values().for_each(|idle| idle.reset());
                    backoff.wait().await;
                }
            }
        }
    }

    async fn keep(&mut self) -> Result<Ended, sqlx::Error> {
        let sessions = self.database.pooler.has_sessions();
        let Some(mut session) = self.begin_or_do_without().await? else {
            return Ok(Ended::Lost);
        };
        // Who does not wait for it need not know.
        let _ = self.held.take().map(|held| held.send(()));
        self.idle.values().for_each(|idle| idle.wake());
        let mut heartbeat = tokio::time::interval(lease::HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        heartbeat.reset();
        loop {
            tokio::select! {
                notification = session.try_recv() => match notification? {
                    Some(notification) => {
                        if let Some(idle) = self.idle.get(notification.payload()) {
                            idle.wake();
                        }
                    }
                    None => return Err(sqlx::Error::PoolClosed),
                },
                _ = heartbeat.tick() => {
                    if !in_time(ANSWER_TIMEOUT, lease::renew(&mut session, self.worker)).await? {
                        return Ok(Ended::Lost);
                    }
                }
                command = self.commands.recv() => {
                    let Some(command) = command else {
                        return Ok(Ended::Retired);
                    };
                    if in_time(ANSWER_TIMEOUT, obey(command, &mut session, self.worker, sessions)).await? {
                        return Ok(Ended::Retired);
                    }
                }
            }
        }
    }

    /// Opens the session as `begin` does. Where that fails, or takes so long that others would take the free lock for the
    /// death of this process, its row is marked on another connection as having no session: then only its lease counts. A
    /// server may refuse new sessions while those that are open go on.
    async fn begin_or_do_without(&self) -> Result<Option<PgListener>, sqlx::Error> {
        let mut begun = pin!(in_time(ANSWER_TIMEOUT, self.begin()));
        let prompt = timeout(PROMPT_SESSION, &mut begun).await;
        if let Ok(Ok(session)) = prompt {
            return Ok(session);
        }
        let without = lease::begin_session(&self.pool, self.worker, false);
        if let Ok(Ok(false)) = timeout(PROMPT_SESSION, without).await {
            return Ok(None);
        }
        match prompt {
            Ok(failed) => failed,
            Err(_) => begun.await,
        }
    }

    /// A session with a fresh lease, and the lock where there are sessions; none if the row is gone.
    async fn begin(&self) -> Result<Option<PgListener>, sqlx::Error> {
        let sessions = self.database.pooler.has_sessions();
        let options = self.database.plain().application_name("polar-jobs lease");
        // The pool is for this one connection, and is never asked for another.
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_with(options)
            .await?;
        let mut session = PgListener::connect_with(&pool).await?;
        session.eager_reconnect(false);
        session.ignore_pool_close_event(true);
        if sessions {
            lease::take_session_lock(&mut session, self.worker).await?;
            idle::listen(&mut session).await?;
        }
        let alive = lease::begin_session(&mut session, self.worker, sessions).await?;
        Ok(alive.then_some(session))
    }
}

/// True if that was the end.
async fn obey(
    command: LeaseCommand,
    session: &mut PgListener,
    worker: i64,
    sessions: bool,
) -> Result<bool, sqlx::Error> {
    match command {
        LeaseCommand::MarkIdle(queue, tx) if sessions => {
            idle::share_lock(session, &queue).await?;
            // A fetcher that is gone need not know.
            let _ = tx.send(());
        }
        LeaseCommand::MarkBusy(queue) if sessions => idle::drop_lock(session, &queue).await?,
        LeaseCommand::MarkIdle(..) | LeaseCommand::MarkBusy(_) => {}
        LeaseCommand::Retire(tx) => {
            lease::retire(session, worker).await?;
            let _ = tx.send(());
            return Ok(true);
        }
    }
    Ok(false)
}
