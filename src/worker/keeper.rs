//! Keeps the lease in a task and on a connection of its own, so that no amount of work can starve
//! the heartbeat; and keeps the sleep locks on the same connection.
//!
//! If the row is gone, somebody took this process for dead and its jobs over: it must stop.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener};
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use crate::queue::connect::{Pooler, QueueDatabase};
use crate::queue::lease;

use super::patience::Patience;

/// How long a lane waits for its sleep to be known; the keeper may be reconnecting.
const UNHEARD: Duration = Duration::from_millis(500);

/// Where a queue's first lane sleeps.
#[derive(Debug)]
pub(super) struct Bed {
    queue: String,
    asleep: AtomicBool,
    bell: Notify,
    keeper: mpsc::UnboundedSender<Wish>,
}

#[derive(Debug)]
enum Wish {
    LieDown(String, oneshot::Sender<()>),
    GetUp(String),
    Retire(oneshot::Sender<()>),
}

impl Bed {
    /// Tells everybody that this queue sleeps here. True if it was not known yet: look once more.
    pub(super) async fn lie_down(&self) -> bool {
        if self.asleep.swap(true, Ordering::AcqRel) {
            return false;
        }
        let (told, heard) = oneshot::channel();
        // Without a keeper (it is reconnecting, or a pooler is in between) polling must do.
        let sent = self
            .keeper
            .send(Wish::LieDown(self.queue.clone(), told))
            .is_ok();
        sent && matches!(tokio::time::timeout(UNHEARD, heard).await, Ok(Ok(())))
    }

    /// Tells everybody that nobody needs to ring for this queue here.
    pub(super) fn get_up(&self) {
        if self.asleep.swap(false, Ordering::AcqRel) {
            // A closed channel means that the process is ending.
            drop(self.keeper.send(Wish::GetUp(self.queue.clone())));
        }
    }

    /// Waits for the bell.
    pub(super) async fn woken(&self) {
        self.bell.notified().await;
    }

    /// Rings here.
    pub(super) fn wake(&self) {
        self.bell.notify_one();
    }

    fn forget(&self) {
        self.asleep.store(false, Ordering::Release);
        self.wake();
    }
}

/// See the module.
pub(super) struct Keeper {
    database: QueueDatabase,
    worker: i64,
    wishes: mpsc::UnboundedReceiver<Wish>,
    beds: HashMap<String, Arc<Bed>>,
    /// Answered once the lease is held.
    held: Option<oneshot::Sender<()>>,
}

/// Asks the keeper to take the worker's row away at a clean stop.
pub(super) struct Retirement(mpsc::UnboundedSender<Wish>);

impl Retirement {
    /// Waits until it is done, or the keeper is gone.
    pub(super) async fn retire(self) {
        let (done, heard) = oneshot::channel();
        if self.0.send(Wish::Retire(done)).is_ok() {
            drop(heard.await);
        }
    }
}

/// The row is gone.
#[derive(Debug, thiserror::Error)]
#[error(
    "worker {0} lost its lease: another process took its jobs over; this one must be started again"
)]
pub struct LeaseLost(pub i64);

impl Keeper {
    pub(super) fn new(
        database: QueueDatabase,
        worker: i64,
        queues: &[String],
    ) -> (Self, HashMap<String, Arc<Bed>>, Retirement) {
        let (sender, wishes) = mpsc::unbounded_channel();
        let bed = |queue: &String| {
            let bed = Bed {
                queue: queue.clone(),
                asleep: AtomicBool::new(false),
                bell: Notify::new(),
                keeper: sender.clone(),
            };
            (queue.clone(), Arc::new(bed))
        };
        let beds: HashMap<_, _> = queues.iter().map(bed).collect();
        (
            Self {
                database,
                worker,
                wishes,
                beds: beds.clone(),
                held: None,
            },
            beds,
            Retirement(sender),
        )
    }

    /// Resolves once the lease and the session lock are held, or the keeper is gone: a worker that
    /// claims before could only be rescued when its lease has run out.
    pub(super) fn held(&mut self) -> oneshot::Receiver<()> {
        let (told, heard) = oneshot::channel();
        self.held = Some(told);
        heard
    }

    /// Keeps the lease until it is lost or retired.
    pub(super) async fn run(mut self) -> Result<(), LeaseLost> {
        let listening = self.listen();
        let _stop_listening = AbortOnDrop(tokio::spawn(listening));
        let mut patience = Patience::default();
        loop {
            match self.keep().await {
                Ok(Kept::Retired) => return Ok(()),
                Ok(Kept::Lost) => return Err(LeaseLost(self.worker)),
                Err(error) => {
                    tracing::warn!(worker = self.worker, %error, "the heartbeat does not reach the database, trying again");
                    self.beds.values().for_each(|bed| bed.forget());
                    patience.wait().await;
                }
            }
        }
    }

    async fn keep(&mut self) -> Result<Kept, sqlx::Error> {
        let sessions = self.database.pooler == Pooler::None;
        let begun = tokio::time::timeout(lease::HEARTBEAT, self.begin(sessions)).await;
        let Some(mut connection) = begun.map_err(|_| sqlx::Error::PoolTimedOut)?? else {
            return Ok(Kept::Lost);
        };
        // Who does not wait for it need not hear it.
        let _ = self.held.take().map(|held| held.send(()));
        let mut heartbeat = tokio::time::interval(lease::HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = heartbeat.tick() => {
                    // A heartbeat that hangs is worse than one that fails.
                    let renewed = tokio::time::timeout(lease::HEARTBEAT, lease::renew(&mut connection, self.worker)).await;
                    if !renewed.map_err(|_| sqlx::Error::PoolTimedOut)?? {
                        return Ok(Kept::Lost);
                    }
                }
                wish = self.wishes.recv() => match wish {
                    Some(Wish::LieDown(queue, told)) => {
                        if sessions {
                            share_sleep_lock(&mut connection, &queue).await?;
                            // A lane that is gone need not know.
                            let _ = told.send(());
                        }
                    }
                    Some(Wish::GetUp(queue)) if sessions => drop_sleep_lock(&mut connection, &queue).await?,
                    Some(Wish::GetUp(_)) => {}
                    Some(Wish::Retire(done)) => {
                        lease::retire(&mut connection, self.worker).await?;
                        connection.close().await?;
                        let _ = done.send(());
                        return Ok(Kept::Retired);
                    }
                    None => return Ok(Kept::Retired),
                }
            }
        }
    }

    /// A connection with a fresh lease, and the session lock where there are sessions; none if the row
    /// is gone.
    async fn begin(&self, sessions: bool) -> Result<Option<PgConnection>, sqlx::Error> {
        let options = self.database.plain().application_name("polar-jobs lease");
        let mut connection = options.connect().await?;
        let alive = lease::renew(&mut connection, self.worker).await?
            && (!sessions || lease::take_session_lock(&mut connection, self.worker).await?);
        Ok(alive.then_some(connection))
    }

    /// Listens for the bell and wakes the beds; after an interruption it wakes everybody, because
    /// what rang meanwhile was not heard.
    fn listen(&self) -> impl Future<Output = ()> + Send + 'static {
        let (database, beds) = (self.database.clone(), self.beds.clone());
        async move {
            if database.pooler == Pooler::Transaction {
                return;
            }
            let mut patience = Patience::default();
            loop {
                let error = match listen_until_error(database.plain(), &beds).await {
                    Ok(never) => match never {},
                    Err(error) => error,
                };
                tracing::debug!(%error, "the bell is not heard, polling until it is");
                patience.wait().await;
            }
        }
    }
}

enum Kept {
    Retired,
    Lost,
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn listen_until_error(
    options: PgConnectOptions,
    beds: &HashMap<String, Arc<Bed>>,
) -> Result<std::convert::Infallible, sqlx::Error> {
    let pool = sqlx::postgres::PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(Duration::from_secs(5))
        .connect_with(options.application_name("polar-jobs listener"))
        .await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen("polar_jobs").await?;
    beds.values().for_each(|bed| bed.wake());
    loop {
        let notification = listener.try_recv().await?.ok_or(sqlx::Error::PoolClosed)?;
        if let Some(bed) = beds.get(notification.payload()) {
            bed.wake();
        }
    }
}

async fn share_sleep_lock(connection: &mut PgConnection, queue: &str) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "SELECT pg_advisory_lock_shared(polar_jobs.sleep_lock($1))",
        queue
    )
    .execute(connection)
    .await
    .map(drop)
}

async fn drop_sleep_lock(connection: &mut PgConnection, queue: &str) -> Result<(), sqlx::Error> {
    sqlx::query_scalar!(
        "SELECT pg_advisory_unlock_shared(polar_jobs.sleep_lock($1))",
        queue
    )
    .fetch_one(connection)
    .await
    .map(drop)
}
