//! The connections that all fetchers of a process share. The second is only opened while the first is
//! busy, and closed when nobody needed it for a while.
//!
//! When a connection is given up in the middle of a claim, nobody knows whether Postgres went on with
//! it. The claim recorded itself, so whoever opens it next ends the old session, begins another
//! epoch, and requeues what that one claim took.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jobs::contract::{BEGIN, in_time};
use sqlx::postgres::{PgDatabaseError, PgSeverity};
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::queue::claim::{self, ClaimFrom, ClaimRecord, ClaimRequest, Claimed};
use crate::queue::connect::{IDLE_TIMEOUT, Pooler, QueueDatabase, set_lock_timeout};
use crate::queue::finish::Completion;
use crate::queue::recovery::{self, Backend, LostClaim};

use super::held_jobs::HeldJobs;
use super::yielding::let_others_run;

/// Opening a connection, recovery of the one before included.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Storing results and claiming.
const TURN_TIMEOUT: Duration = Duration::from_secs(30);
/// Postgres gives up before we do, so that nothing is stored after we gave up.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a batch waits for a row that somebody else holds before it goes on without it.
const LOCK_TIMEOUT: Duration = Duration::from_millis(250);
/// Between two tries to requeue what somebody else holds.
const RELEASE_INTERVAL: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct FetchConnections {
    connections: Vec<Arc<Mutex<FetchConnection>>>,
    free: Arc<Semaphore>,
}

/// A connection for one turn of a fetcher.
pub(super) struct AcquiredConnection {
    // In this order: the connection is free before somebody may look for it.
    connection: OwnedMutexGuard<FetchConnection>,
    _permit: OwnedSemaphorePermit,
}

/// Where a connection is, or was.
pub(super) struct FetchConnection {
    database: QueueDatabase,
    worker: i64,
    held: Arc<HeldJobs>,
    fetcher: i16,
    epoch: i32,
    turn: i64,
    open: Option<Open>,
    /// What was given up and not looked after yet.
    lost: Option<Lost>,
    unreleased: Unreleased,
    used: Instant,
}

/// Claims without an answer whose rows somebody else's transaction holds.
#[derive(Default)]
struct Unreleased {
    claims: Vec<LostClaim>,
    /// When it was last tried to requeue them.
    last_try: Option<Instant>,
}

struct Open {
    connection: PgConnection,
    /// None behind a pooler, where it changes with each transaction.
    backend: Option<Backend>,
}

#[derive(Clone, Copy)]
struct Lost {
    claim: Option<Unanswered>,
    backend: Option<Backend>,
}

/// A claim that was under way when its connection was given up.
#[derive(Clone, Copy)]
struct Unanswered {
    turn: i64,
    /// How many jobs it recorded as held before.
    held: usize,
}

impl FetchConnections {
    pub(super) fn new(
        database: &QueueDatabase,
        worker: i64,
        held: &Arc<HeldJobs>,
        connections: u32,
    ) -> Self {
        let connection = |fetcher| FetchConnection {
            database: database.clone(),
            worker,
            held: Arc::clone(held),
            fetcher: i16::try_from(fetcher).unwrap_or(i16::MAX),
            epoch: 0,
            turn: 0,
            open: None,
            lost: None,
            unreleased: Unreleased::default(),
            used: Instant::now(),
        };
        let connections: Vec<_> = (0..connections.max(1))
            .map(|fetcher| Arc::new(Mutex::new(connection(fetcher))))
            .collect();
        Self {
            free: Arc::new(Semaphore::new(connections.len())),
            connections,
        }
    }

    /// Waits for a connection; the first one if it is free.
    pub(super) async fn acquire(&self) -> AcquiredConnection {
        loop {
            let permit = Arc::clone(&self.free)
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            for connection in &self.connections {
                if let Ok(connection) = Arc::clone(connection).try_lock_owned() {
                    return AcquiredConnection {
                        connection,
                        _permit: permit,
                    };
                }
            }
            // Only `close_idle` takes one without a permit, and only for a moment.
            let_others_run().await;
        }
    }

    /// Closes further connections that nobody used for a while.
    pub(super) async fn close_idle(&self) {
        for connection in self.connections.iter().skip(1) {
            let Ok(mut connection) = Arc::clone(connection).try_lock_owned() else {
                continue;
            };
            let idle = connection.used.elapsed() > IDLE_TIMEOUT;
            if let Some(open) = connection.open.take_if(|_| idle) {
                drop(connection);
                // One that cannot say good-bye is closed all the same.
                drop(timeout(Duration::from_secs(1), open.connection.close()).await);
            }
        }
    }

    /// Requeues claims without an answer on connections that nobody uses now: who needed one tried again on another.
    pub(super) async fn recover_idle(&self) {
        for connection in &self.connections {
            // Whoever has a permit finds a connection.
            let Ok(_permit) = self.free.try_acquire() else {
                return;
            };
            let Ok(mut connection) = Arc::clone(connection).try_lock_owned() else {
                continue;
            };
            if connection.has_unanswered()
                && let Err(error) = connection.ready().await
            {
                tracing::debug!(%error, "claims without an answer are not requeued yet");
            }
        }
    }

    /// Requeues claims without an answer that are left at the end.
    pub(super) async fn recover(&self) -> Result<(), sqlx::Error> {
        for connection in &self.connections {
            let mut connection = connection.lock().await;
            if connection.has_unanswered() {
                connection.unreleased.last_try = None;
                connection.ready().await?;
            }
        }
        Ok(())
    }
}

impl Deref for AcquiredConnection {
    type Target = FetchConnection;

    fn deref(&self) -> &FetchConnection {
        &self.connection
    }
}

impl DerefMut for AcquiredConnection {
    fn deref_mut(&mut self) -> &mut FetchConnection {
        &mut self.connection
    }
}

impl FetchConnection {
    /// Whether it was given up and not looked after yet, or claims of it are still to be requeued.
    fn has_unanswered(&self) -> bool {
        self.lost.is_some() || !self.unreleased.claims.is_empty()
    }

    /// Runs `work` on the connection; gives the connection up if it may not be used any more.
    pub(super) async fn run<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        let connection = self.ready().await?;
        let done = in_time(TURN_TIMEOUT, work(connection)).await;
        self.judged(done, None)
    }

    /// Stores completions and claims, in one commit.
    pub(super) async fn complete_and_claim(
        &mut self,
        queue: &str,
        completions: &[Completion],
        limit: usize,
        from: ClaimFrom,
    ) -> Result<Vec<Claimed>, sqlx::Error> {
        self.ready().await?;
        self.turn += 1;
        let mut held = self.held.beside(self.fetcher, completions);
        held.extend(self.unreleased.claims.iter().map(|claim| claim.id));
        let request = ClaimRequest {
            record: ClaimRecord {
                worker: self.worker,
                fetcher: self.fetcher,
                epoch: self.epoch,
                turn: self.turn,
                held: &held,
            },
            queue,
            completions,
            limit,
            from,
        };
        let pooler = self.database.pooler;
        let open = self.open.as_mut().expect("it was opened above");
        let claim = async {
            match pooler {
                Pooler::None => claim::complete_and_claim(&mut open.connection, &request).await,
                Pooler::Transaction => {
                    let mut transaction = open.connection.begin_with(BEGIN).await?;
                    set_lock_timeout(&mut transaction, LOCK_TIMEOUT).await?;
                    let rows = claim::complete_and_claim(&mut transaction, &request).await?;
                    transaction.commit().await?;
                    Ok(rows)
                }
            }
        };
        let claimed = in_time(TURN_TIMEOUT, claim).await;
        let unanswered = Unanswered {
            turn: self.turn,
            held: held.len(),
        };
        let rows = self.judged(claimed, Some(unanswered))?;
        self.held.add(self.fetcher, &rows);
        Ok(rows)
    }

    /// The connection, opened where there is none, with everything of the one before looked after.
    async fn ready(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        if self.open.is_none() {
            self.open = Some(in_time(OPEN_TIMEOUT, self.reopen()).await?);
            self.lost = None;
        }
        self.used = Instant::now();
        self.release_rest().await?;
        let open = self.open.as_mut().expect("it was opened above");
        Ok(&mut open.connection)
    }

    async fn reopen(&mut self) -> Result<Open, sqlx::Error> {
        let options = self.database.bounded(STATEMENT_TIMEOUT, LOCK_TIMEOUT);
        let mut connection = options
            .application_name("polar-jobs fetcher")
            .connect()
            .await?;
        if let Some(backend) = self.lost.and_then(|lost| lost.backend) {
            recovery::terminate(&mut connection, backend).await?;
        }
        self.epoch += 1;
        let (worker, fetcher, epoch) = (self.worker, self.fetcher, self.epoch);
        let last = recovery::begin_epoch(&mut connection, worker, fetcher, epoch).await?;
        // Without a row this process is about to learn that it lost its lease.
        let last = last.ok_or(sqlx::Error::RowNotFound)?;
        let mut backend = None;
        if self.database.pooler.has_sessions() {
            backend = Some(recovery::backend_of(&mut connection).await?);
        }
        let unanswered = self.lost.and_then(|lost| lost.claim);
        if let Some(claim) = unanswered.filter(|claim| claim.turn == last.turn) {
            let taken = last.taken(claim.held);
            let lost = recovery::lost_claims(&mut connection, worker, taken).await?;
            // The last that is done here: what comes before may fail, and is done again as a whole.
            self.unreleased.claims.extend(lost);
            self.unreleased.last_try = None;
        }
        Ok(Open {
            connection,
            backend,
        })
    }

    async fn release_rest(&mut self) -> Result<(), sqlx::Error> {
        let Unreleased { claims, last_try } = &mut self.unreleased;
        let due = last_try.is_none_or(|at| at.elapsed() > RELEASE_INTERVAL);
        if claims.is_empty() || !due {
            return Ok(());
        }
        let open = self.open.as_mut().expect("called with an open connection");
        *last_try = Some(Instant::now());
        let released = recovery::release(&mut open.connection, self.worker, claims);
        match in_time(TURN_TIMEOUT, released).await {
            Ok(left) => claims.retain(|claim| left.contains(&claim.id)),
            failed => return self.judged(failed, None).map(drop),
        }
        Ok(())
    }

    /// Gives the connection up unless what came is an answer to the statement. `claim` is the one that was
    /// under way.
    fn judged<T>(
        &mut self,
        done: Result<T, sqlx::Error>,
        claim: Option<Unanswered>,
    ) -> Result<T, sqlx::Error> {
        if done.as_ref().is_err_and(|error| !is_answer(error)) {
            let backend = self.open.take().and_then(|open| open.backend);
            self.lost = Some(Lost { claim, backend });
        }
        done
    }
}

/// Whether Postgres refused the statement and the session goes on: then it is certain that nothing was
/// stored.
fn is_answer(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<PgDatabaseError>())
        .is_some_and(|error| error.severity() == PgSeverity::Error)
}
