//! A fetcher stores the results of a queue and claims its jobs, both in one commit while there is work.
//!
//! The first fetcher of a queue also claims without having something to store; further ones only work
//! when results come in, so that the database is busy with one batch while this process runs the other.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

use crate::queue::claim::{ClaimCursor, ClaimFrom, Claimed, LARGEST_CLAIM, Share};
use crate::queue::finish;
use crate::queue::recovery;
use crate::sqlstate::is_lock_timeout;

use super::backoff::Backoff;
use super::batch::Batch;
use super::completion_buffer::CompletionBuffer;
use super::fetch_connections::{FetchConnection, FetchConnections};
use super::held_jobs::HeldJobs;
use super::lease_keeper::IdleState;
use super::result::{BufferedResult, STOPPING};
use super::slots::Slots;

/// How long a claim may start behind the last one instead of at the head of the queue.
const HEAD_AGAIN_AFTER: Duration = Duration::from_millis(200);
/// How long a result is put aside that an open transaction of somebody else is in the way of.
const CONTENDED_DELAY: Duration = Duration::from_millis(500);
/// Full claims in a row after which the queue counts as busy and nobody needs to notify us.
const BUSY_AFTER: u32 = 3;
/// When to look again after a claim that found several jobs: they come faster than the notifications.
const STREAM_POLL: Duration = Duration::from_millis(5);

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

/// What the fetchers of all queues share.
pub(super) struct Shared {
    pub(super) worker: i64,
    pub(super) connections: FetchConnections,
    pub(super) held: Arc<HeldJobs>,
    pub(super) phase: watch::Receiver<Phase>,
    /// Whether the process ends when nothing is runnable.
    pub(super) drain: bool,
}

/// See the module.
pub(super) struct Fetcher {
    pub(super) shared: Arc<Shared>,
    pub(super) queue: String,
    pub(super) first: bool,
    pub(super) slots: Slots,
    pub(super) buffer: Arc<CompletionBuffer>,
    pub(super) idle: Arc<IdleState>,
    pub(super) claimed: Option<mpsc::UnboundedSender<ClaimedJob>>,
    /// True once a look found nothing and nothing of this queue was running.
    pub(super) quiet: Option<watch::Sender<bool>>,
    pub(super) state: FetchState,
}

/// What a fetcher knows between its turns.
#[derive(Default)]
pub(super) struct FetchState {
    /// Whether a claim may find jobs.
    should_claim: bool,
    /// When to claim once more although nobody notified.
    look_again: Option<Instant>,
    /// Claims in a row that found as many jobs as they asked for.
    full_claims: u32,
    cursor: Cursor,
    /// Jobs whose rows somebody else's transaction held when they were to be stored.
    contended: HashSet<i64>,
    /// Results of such jobs, on their way back into the buffer.
    put_aside: JoinSet<()>,
}

/// A job on its way to be run.
pub(super) struct ClaimedJob {
    pub(super) job: Claimed,
    /// When it was claimed, by this process's clock.
    pub(super) at: Instant,
}

/// Where this fetcher's next claim starts; for a moment only, see [`ClaimCursor`].
#[derive(Default)]
struct Cursor {
    at: Option<ClaimCursor>,
    head_seen: Option<Instant>,
}

impl Cursor {
    fn remember(&mut self, rows: &[Claimed], full: bool) {
        if self.at.is_none() {
            self.head_seen = Some(Instant::now());
        }
        let fresh = self
            .head_seen
            .is_some_and(|seen| seen.elapsed() < HEAD_AGAIN_AFTER);
        self.at = ClaimCursor::last_of(rows).filter(|_| full && fresh);
    }
}

/// How much is to be claimed.
#[derive(Clone, Copy)]
struct ClaimSize {
    /// At most so many jobs.
    limit: usize,
    /// Slots taken for it; the others are those of the batch.
    free: usize,
}

/// What came of a turn.
struct Turned {
    /// Jobs claimed.
    found: usize,
    /// Something ended that others may have waited for.
    released: bool,
    /// To be tried again later.
    contended: Vec<BufferedResult>,
}

impl Fetcher {
    /// Works until the phase is `Closing` and everything is stored.
    pub(super) async fn run(mut self) {
        self.state.should_claim = self.first;
        let slots = self.slots.clone();
        loop {
            while self.state.put_aside.try_join_next().is_some() {}
            let phase = *self.shared.phase.borrow();
            if phase != Phase::Running {
                self.claimed = None;
            }
            let freed = slots.freed_since_now();
            let enough = slots.used().min(LARGEST_CLAIM);
            self.buffer.wait_for_batch(enough).await;
            let batch = Batch::of(self.buffer.take(LARGEST_CLAIM));
            let size = self.claim_size(&batch);
            if batch.len() > 0 || size.free > 0 {
                self.turn(batch, size).await;
            } else if phase == Phase::Closing && self.has_stored_everything() {
                return;
            } else {
                self.rest(phase, freed).await;
            }
        }
    }

    fn has_stored_everything(&self) -> bool {
        self.state.put_aside.is_empty() && self.buffer.is_empty()
    }

    fn claim_size(&self, batch: &Batch) -> ClaimSize {
        let may_find = self.state.should_claim || !batch.completions.is_empty();
        let claiming = self.claimed.is_some() && may_find;
        let free = if claiming {
            self.slots.take(LARGEST_CLAIM - batch.len())
        } else {
            0
        };
        self.slots.want(claiming && batch.len() + free == 0);
        let limit = if claiming {
            free + self.slots.keepable(batch.len())
        } else {
            0
        };
        ClaimSize { limit, free }
    }

    /// Stores a batch and claims, and notes what that says about the next turn.
    async fn turn(&mut self, batch: Batch, size: ClaimSize) {
        let from_head = self.state.cursor.at.is_none();
        let turned = self.store_and_claim(batch, size).await;
        for result in turned.contended {
            let buffer = Arc::clone(&self.buffer);
            self.state.put_aside.spawn(push_later(buffer, result));
        }
        self.state.should_claim |= turned.released;
        if self.shared.drain && self.slots.used() == 0 {
            // Only the first fetcher says that the queue is empty, after a look, and it may be asleep already.
            if self.first {
                self.state.should_claim = true;
            } else {
                self.idle.wake();
            }
        }
        if size.limit > 0 {
            let full = turned.found == size.limit;
            // Behind a cursor nothing is no proof of an empty queue.
            self.state.should_claim = full || turned.released || !from_head;
            self.state.look_again = (turned.found > 1).then(|| Instant::now() + STREAM_POLL);
            self.state.full_claims = if full { self.state.full_claims + 1 } else { 0 };
            self.update_idle_state(turned.found).await;
        }
    }

    /// Tries until the database answers.
    async fn store_and_claim(&mut self, mut batch: Batch, size: ClaimSize) -> Turned {
        let mut backoff = Backoff::default();
        let from = self.claim_from();
        let shared = Arc::clone(&self.shared);
        let buffer = Arc::clone(&self.buffer);
        let _storing = buffer.storing();
        loop {
            // Other queues may use the connection while this one waits.
            let mut connection = shared.connections.acquire().await;
            match self.try_turn(&mut connection, &mut batch, size, from).await {
                Ok(rows) => {
                    drop(connection);
                    let released = shared.held.remove(batch.claims());
                    let found = rows.len();
                    // Slots of the batch are free now, those of the new rows are taken.
                    let slots = size.free + batch.len();
                    self.slots.give(slots.saturating_sub(found));
                    self.state.cursor.remember(&rows, found == size.limit);
                    self.hand_out(rows);
                    return Turned {
                        found,
                        released,
                        contended: batch.contended,
                    };
                }
                Err(error) if is_lock_timeout(&error) => {
                    self.split(&mut connection, &mut batch).await;
                }
                Err(error) => {
                    drop(connection);
                    tracing::warn!(queue = %self.queue, %error, "the database does not answer, trying again");
                    backoff.wait().await;
                }
            }
        }
    }

    /// Where to claim: not what another fetcher of the queue may be claiming at this moment.
    fn claim_from(&self) -> ClaimFrom {
        let share = match (self.buffer.is_storing(), self.first) {
            (false, _) => Share::All,
            (true, true) => Share::Even,
            (true, false) => Share::Odd,
        };
        let cursor = self.state.cursor.at;
        cursor.map_or(ClaimFrom::Head, |at| ClaimFrom::Cursor(at, share))
    }

    async fn try_turn(
        &mut self,
        connection: &mut FetchConnection,
        batch: &mut Batch,
        size: ClaimSize,
        from: ClaimFrom,
    ) -> Result<Vec<Claimed>, sqlx::Error> {
        let worker = self.shared.worker;
        let contended = &self.state.contended;
        if batch.claims().any(|(id, _)| contended.contains(&id)) {
            self.skip_contended(connection, batch).await?;
        }
        if !batch.requeues.is_empty() {
            let requeues = &batch.requeues;
            let left = connection
                .run(async |connection| finish::requeue(connection, worker, requeues).await)
                .await?;
            batch.put_aside(|id| left.contains(&id));
        }
        if !batch.discards.is_empty() {
            let discards = &batch.discards;
            connection
                .run(async |connection| finish::discard(connection, worker, discards).await)
                .await?;
        }
        // The slots of what was put aside are still in use.
        let limit = size.limit.saturating_sub(batch.contended.len());
        connection
            .complete_and_claim(&self.queue, &batch.completions, limit, from)
            .await
    }

    /// Puts aside what was contended before and still is, so that nobody waits for it again.
    async fn skip_contended(
        &mut self,
        connection: &mut FetchConnection,
        batch: &mut Batch,
    ) -> Result<(), sqlx::Error> {
        let ids: Vec<i64> = batch.claims().map(|(id, _)| id).collect();
        let locked = connection
            .run(async |connection| recovery::locked_by_others(connection, &ids).await)
            .await?;
        let contended = &mut self.state.contended;
        contended.retain(|id| !ids.contains(id));
        contended.extend(&locked);
        batch.put_aside(|id| locked.contains(&id));
        Ok(())
    }

    /// Somebody holds a row of the batch: only that one waits.
    async fn split(&mut self, connection: &mut FetchConnection, batch: &mut Batch) {
        let before = batch.len();
        let skipped = self.skip_contended(connection, batch).await;
        if let Err(error) = skipped {
            tracing::debug!(%error, "it is not known who is in the way of a batch");
        }
        if batch.len() == before {
            // Not a row of ours is held but something that ending one needs.
            batch.halve();
        }
        tracing::info!(queue = %self.queue, "a transaction of somebody else is in the way of finished jobs; they wait for it");
    }

    fn hand_out(&self, rows: Vec<Claimed>) {
        let at = Instant::now();
        for job in rows {
            let (id, attempt) = (job.id, job.attempt);
            let refused = self
                .claimed
                .as_ref()
                .is_none_or(|claimed| claimed.send(ClaimedJob { job, at }).is_err());
            if refused {
                self.buffer
                    .push(BufferedResult::release(id, attempt, STOPPING));
            }
        }
    }

    /// A queue that ran dry is marked idle, and looked at once more, so that no commit falls between
    /// the look and the mark. A busy one is marked so, so that nobody notifies us in vain. Both by the first
    /// fetcher alone: it goes on looking until it marks the queue idle. If another one marked it busy and then
    /// ran dry, nobody would look any more.
    async fn update_idle_state(&mut self, found: usize) {
        let state = &mut self.state;
        if self.first {
            if state.full_claims >= BUSY_AFTER {
                self.idle.mark_busy();
            } else if !state.should_claim && self.idle.mark_idle().await {
                state.should_claim = true;
            }
        }
        if let Some(quiet) = &self.quiet {
            quiet.send_replace(!state.should_claim && found == 0 && self.slots.used() == 0);
        }
    }

    /// Waits for a result, a slot, a notification, the next look or another phase.
    async fn rest(&mut self, known: Phase, freed: impl Future<Output = ()>) {
        let mut phase = self.shared.phase.clone();
        if *phase.borrow_and_update() != known {
            return;
        }
        let state = &mut self.state;
        let look_again = state.look_again.unwrap_or_else(Instant::now).into();
        let may_find_jobs = tokio::select! {
            () = self.buffer.arrived() => false,
            () = freed, if state.should_claim => true,
            () = self.idle.woken(), if self.first => true,
            () = sleep_until(look_again), if self.first && state.look_again.is_some() => true,
            Some(_) = state.put_aside.join_next() => false,
            Ok(()) = phase.changed() => known == Phase::Running,
        };
        state.should_claim |= may_find_jobs && self.first;
    }
}

async fn push_later(buffer: Arc<CompletionBuffer>, result: BufferedResult) {
    sleep(CONTENDED_DELAY).await;
    buffer.push(result);
}
