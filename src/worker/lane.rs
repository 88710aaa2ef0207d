//! A lane: one connection that stores endings and claims jobs, both in one commit while there is work.
//!
//! The first lane of a queue also sleeps and polls; further lanes only work when endings come in, so
//! that the database is busy with one batch while this process runs the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::{PgConnection, PgPool};
use tokio::sync::{RwLock, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior};

use crate::queue::bell::Bell;
use crate::queue::claim::{self, Claimed, LARGEST_CLAIM, Place};
use crate::queue::connect::QueueDatabase;
use crate::queue::finish::{self, Completion, Discard, Return};

use super::attempt::Runner;
use super::desk::Desk;
use super::ending::{Ending, STOPPING};
use super::keeper::Bed;
use super::patience::Patience;
use super::slots::Slots;

/// How long a lane that heard nothing waits before it looks again.
const POLL: Duration = Duration::from_secs(1);
/// A turn that takes longer has lost its connection without knowing it.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long a claim may start behind the last one instead of at the head of the queue.
const HEAD_AGAIN_AFTER: Duration = Duration::from_millis(50);
/// How long a lane keeps its connection. With a new one it hands back what was claimed and never
/// heard of, should Postgres have gone on with a claim after its connection was given up.
const RENEWAL: Duration = Duration::from_secs(60);
/// How long an ending rests that an open transaction of somebody else is in the way of.
const IN_THE_WAY: Duration = Duration::from_millis(500);
/// Full claims in a row after which the queue counts as busy and nobody needs to ring.
const BUSY_AFTER: u32 = 3;

/// Where the process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Claim and store.
    Running,
    /// Store only; what runs may end.
    Stopping,
    /// Nothing runs any more: store what is left and end.
    Closing,
}

/// What the lanes of all queues share.
pub(super) struct Shared {
    pub(super) database: QueueDatabase,
    pub(super) pool: PgPool,
    pub(super) worker: i64,
    pub(super) bell: Bell,
    pub(super) runner: Arc<Runner>,
    /// Held for reading during a claim, for writing while unknown claims are handed back.
    pub(super) claiming: RwLock<()>,
    pub(super) phase: watch::Receiver<Phase>,
    /// Whether the process ends when nothing is runnable.
    pub(super) drain: bool,
}

/// See the module.
pub(super) struct Lane {
    pub(super) shared: Arc<Shared>,
    pub(super) queue: String,
    pub(super) first: bool,
    pub(super) slots: Slots,
    pub(super) desk: Arc<Desk>,
    pub(super) bed: Arc<Bed>,
    pub(super) claimed: Option<mpsc::UnboundedSender<Claimed>>,
    /// True once a look found nothing and nothing of this queue was running.
    pub(super) idle: Option<watch::Sender<bool>>,
}

/// Where this lane's next claim starts; for a moment only, see [`Place`].
#[derive(Default)]
struct Shortcut {
    place: Option<Place>,
    head_seen: Option<Instant>,
}

impl Shortcut {
    fn place(&self) -> Option<Place> {
        self.place
    }

    fn remember(&mut self, rows: &[Claimed], full: bool) {
        if self.place.is_none() {
            self.head_seen = Some(Instant::now());
        }
        let fresh = self
            .head_seen
            .is_some_and(|seen| seen.elapsed() < HEAD_AGAIN_AFTER);
        self.place = Place::last_of(rows).filter(|_| full && fresh);
    }
}

/// Endings that one commit may store, sorted by what must be done.
#[derive(Default)]
struct Batch {
    completions: Vec<Completion>,
    returns: Vec<Return>,
    discards: Vec<Discard>,
    /// Returns that cannot be stored now.
    in_the_way: Vec<Return>,
}

/// What came of a turn.
struct Turned {
    /// Jobs claimed.
    found: usize,
    /// Something ended that others may have waited for.
    released: bool,
    /// To be tried again later.
    in_the_way: Vec<Return>,
}

impl Batch {
    fn of(endings: Vec<Ending>) -> Self {
        let mut batch = Self::default();
        for ending in endings {
            match ending {
                Ending::Complete(completion) => batch.completions.push(completion),
                Ending::Return(entry) => batch.returns.push(entry),
                Ending::Discard(entry) => batch.discards.push(entry),
            }
        }
        batch
    }

    fn len(&self) -> usize {
        self.completions.len() + self.returns.len() + self.discards.len()
    }

    /// The claims whose ends these are.
    fn claims(&self) -> impl Iterator<Item = (i64, i32)> {
        let completions = self.completions.iter().map(|done| (done.id, done.attempt));
        let returns = self.returns.iter().map(|back| (back.id, back.attempt));
        let discards = self.discards.iter().map(|gone| (gone.id, gone.attempt));
        completions.chain(returns).chain(discards)
    }
}

impl Lane {
    /// Works until the phase is `Closing` and everything is stored.
    pub(super) async fn run(mut self) {
        let mut connection: Option<PgConnection> = None;
        let mut resting = JoinSet::new();
        let mut renewed = Instant::now();
        // A clock of its own: whatever else wakes the lane must not put the next look off.
        let mut poll = tokio::time::interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut hungry = self.first;
        let mut streak = 0;
        let mut shortcut = Shortcut::default();
        loop {
            while resting.try_join_next().is_some() {}
            let phase = *self.shared.phase.borrow();
            if phase != Phase::Running {
                self.claimed = None;
            }
            let freed = self.slots.freed_since_now();
            let enough = self.slots.used().min(LARGEST_CLAIM);
            self.desk.gather(enough).await;
            let batch = Batch::of(self.desk.collect(LARGEST_CLAIM));
            let claiming = self.claimed.is_some() && (hungry || !batch.completions.is_empty());
            let free = if claiming {
                self.slots.take(LARGEST_CLAIM - batch.len())
            } else {
                0
            };
            let limit = if claiming {
                free + self.slots.keepable(batch.len())
            } else {
                0
            };
            self.slots.want(claiming && batch.len() + free == 0);
            if batch.len() == 0 && free == 0 {
                if phase == Phase::Closing && resting.is_empty() && self.desk.is_empty() {
                    return;
                }
                let woken = self
                    .rest(hungry, freed, phase, &mut poll, &mut resting)
                    .await;
                hungry |= woken && self.first;
                continue;
            }
            let from_head = shortcut.place().is_none();
            let renew = renewed.elapsed() > RENEWAL;
            if renew {
                (connection, renewed) = (None, Instant::now());
            }
            let turn = self.turn(&mut connection, batch, limit, free, &mut shortcut, renew);
            let Turned {
                found,
                released,
                in_the_way,
            } = turn.await;
            for entry in in_the_way {
                resting.spawn(leave_later(Arc::clone(&self.desk), entry));
            }
            hungry |= released;
            if self.shared.drain && !self.first && self.slots.used() == 0 {
                // Only the first lane says that the queue is empty, and it may be asleep already.
                self.bed.wake();
            }
            if limit > 0 {
                poll.reset();
                let full = found == limit;
                // Behind a shortcut nothing is no proof of an empty queue.
                hungry = full || released || !from_head;
                streak = if full { streak + 1 } else { 0 };
                self.go_to_bed_or_get_up(&mut hungry, found, streak).await;
            }
        }
    }

    /// Stores a batch and claims; tries until the database answers.
    async fn turn(
        &self,
        connection: &mut Option<PgConnection>,
        mut batch: Batch,
        limit: usize,
        free: usize,
        shortcut: &mut Shortcut,
        mut unsure: bool,
    ) -> Turned {
        let mut patience = Patience::default();
        loop {
            let turn = self.try_turn(connection, &mut batch, limit, shortcut.place(), unsure);
            let turn = tokio::time::timeout(DEADLINE, turn);
            match turn.await.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
                Ok(rows) => {
                    let released = self.desk.forget(batch.claims());
                    let found = rows.len();
                    // Slots of the batch are free now, those of the new rows are taken.
                    self.slots.give((free + batch.len()).saturating_sub(found));
                    shortcut.remember(&rows, found == limit);
                    self.hand_out(rows);
                    return Turned {
                        found,
                        released,
                        in_the_way: batch.in_the_way,
                    };
                }
                Err(error) => {
                    tracing::warn!(queue = %self.queue, %error, "the database does not answer, trying again");
                    *connection = None;
                    unsure = true;
                    patience.wait().await;
                }
            }
        }
    }

    async fn try_turn(
        &self,
        connection: &mut Option<PgConnection>,
        batch: &mut Batch,
        limit: usize,
        after: Option<Place>,
        unsure: bool,
    ) -> Result<Vec<Claimed>, sqlx::Error> {
        let (worker, desk) = (self.shared.worker, &self.desk);
        let connection = match connection {
            Some(connection) => connection,
            None => {
                let mut fresh = self.shared.database.connect().await?;
                if unsure {
                    let _nobody_claims = self.shared.claiming.write().await;
                    let held = desk.held();
                    finish::release_unknown(&mut fresh, worker, &self.queue, &held).await?;
                }
                connection.insert(fresh)
            }
        };
        if !batch.returns.is_empty() {
            let left = finish::put_back(connection, worker, &batch.returns).await?;
            let blocked = batch
                .returns
                .extract_if(.., |entry| left.contains(&entry.id));
            batch.in_the_way.extend(blocked);
        }
        if !batch.discards.is_empty() {
            finish::discard(connection, worker, &batch.discards).await?;
        }
        let _claiming = self.shared.claiming.read().await;
        let done = &batch.completions;
        // Their slots are still in use.
        let limit = limit.saturating_sub(batch.in_the_way.len());
        let rows = claim::turn(connection, worker, &self.queue, done, limit, after).await?;
        desk.hold(&rows);
        Ok(rows)
    }

    fn hand_out(&self, rows: Vec<Claimed>) {
        for job in rows {
            let (id, attempt) = (job.id, job.attempt);
            let refused = self
                .claimed
                .as_ref()
                .is_none_or(|claimed| claimed.send(job).is_err());
            if refused {
                self.desk.leave(Ending::hand_back(id, attempt, STOPPING));
            }
        }
    }

    /// A queue that ran dry sleeps: it says so first and looks once more, so that no commit falls
    /// between the look and the sleep. A busy one gets up, so that nobody rings in vain.
    async fn go_to_bed_or_get_up(&self, hungry: &mut bool, found: usize, streak: u32) {
        if streak >= BUSY_AFTER {
            self.bed.get_up();
        } else if self.first && !*hungry && self.bed.lie_down().await {
            *hungry = true;
        }
        if let Some(idle) = &self.idle {
            idle.send_replace(!*hungry && found == 0 && self.slots.used() == 0);
        }
    }

    /// Waits for an ending, a slot, the bell, the poll or another phase. True if it may be worth to
    /// look for jobs.
    async fn rest(
        &self,
        hungry: bool,
        freed: impl Future<Output = ()>,
        known: Phase,
        poll: &mut Interval,
        resting: &mut JoinSet<()>,
    ) -> bool {
        let mut phase = self.shared.phase.clone();
        if *phase.borrow_and_update() != known {
            return false;
        }
        tokio::select! {
            () = self.desk.arrived() => false,
            () = freed, if hungry => true,
            () = self.bed.woken(), if self.first => true,
            _ = poll.tick(), if self.first => true,
            Some(_) = resting.join_next() => false,
            Ok(()) = phase.changed() => known == Phase::Running,
        }
    }
}

async fn leave_later(desk: Arc<Desk>, entry: Return) {
    tokio::time::sleep(IN_THE_WAY).await;
    desk.leave(Ending::Return(entry));
}
