//! Results of attempts until they are stored: most in batches with the next claim, those with local writes or
//! follow-ups in a transaction of their own.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use foldhash::HashMap;
use jobs::contract::begin;
use sqlx::PgPool;
use tokio::sync::Notify;

use crate::queue::claim::Claimed;
use crate::queue::finish::{self, Completion};
use crate::queue::notifier::Notifier;
use crate::sqlstate::is_statement_at_fault;

use super::attempt::Runner;
use super::lease_keeper::IdleState;
use super::result::{BufferedResult, NOT_STORED, TransactionalCompletion};
use super::slots::Slots;
use super::yielding::let_others_run;

/// How long results are gathered at most, and how long after the last one.
const GATHER_TIMEOUT: Duration = Duration::from_millis(1);
const LULL: Duration = Duration::from_micros(30);
/// The same while the database is busy with another batch of the queue.
const BUSY_GATHER_TIMEOUT: Duration = Duration::from_millis(10);
const BUSY_LULL: Duration = Duration::from_millis(1);
/// Seconds after which a job is run again whose completion the database did not take.
const NOT_STORED_DELAY: f64 = 1.0;

/// A claim that this process holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    attempt: i32,
    ordered: bool,
    fetcher: i16,
}

/// The claims that this process holds, of all queues. Each is looked up several times, and nobody outside chooses
/// the ids: so the hash is a fast one.
#[derive(Debug, Default)]
pub(super) struct HeldJobs(Mutex<HashMap<i64, Held>>);

impl HeldJobs {
    /// Notes what a fetch connection claimed.
    pub(super) fn add(&self, fetcher: i16, jobs: &[Claimed]) {
        let held = |job: &Claimed| {
            let held = Held {
                attempt: job.attempt,
                ordered: job.ordered,
                fetcher,
            };
            (job.id, held)
        };
        self.lock().extend(jobs.iter().map(held));
    }

    /// Forgets claims, by row and attempt, whose end is stored: the row may be claimed again here
    /// already. True if one of them had an ordering key, so that another job may be free to run now.
    pub(super) fn remove(&self, claims: impl IntoIterator<Item = (i64, i32)>) -> bool {
        let mut held = self.lock();
        let mut ordered = false;
        for (id, attempt) in claims {
            if held.get(&id).is_some_and(|claim| claim.attempt == attempt) {
                ordered |= held.remove(&id).is_some_and(|claim| claim.ordered);
            }
        }
        ordered
    }

    /// What this fetch connection claimed and the process still holds once `completions` are stored.
    pub(super) fn beside(&self, fetcher: i16, completions: &[Completion]) -> Vec<i64> {
        let ended: HashMap<i64, i32> = completions.iter().map(|c| (c.id, c.attempt)).collect();
        self.lock()
            .iter()
            .filter(|(id, held)| held.fetcher == fetcher && ended.get(id) != Some(&held.attempt))
            .map(|(id, _)| *id)
            .collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<i64, Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Results of one queue that wait to be stored. In memory only: what is lost with the process is run
/// again.
#[derive(Debug, Default)]
pub(super) struct CompletionBuffer {
    pending: Mutex<Vec<BufferedResult>>,
    arrived: Notify,
    /// Fetchers of the queue whose statement runs.
    storing: AtomicUsize,
    /// How many results a fetcher waits for at most.
    enough: AtomicUsize,
    /// Such a statement ended, or there are enough.
    ready: Notify,
}

/// A fetcher's statement runs, until this is dropped.
pub(super) struct Storing<'a>(&'a CompletionBuffer);

impl Drop for Storing<'_> {
    fn drop(&mut self) {
        self.0.storing.fetch_sub(1, Ordering::AcqRel);
        self.0.ready.notify_waiters();
    }
}

impl CompletionBuffer {
    /// Adds a result. True if that woke a fetcher: whoever is woken takes everything and looks again before it rests,
    /// so only the first result wakes one.
    pub(super) fn push(&self, result: BufferedResult) -> bool {
        let waiting = {
            let mut pending = self.lock();
            pending.push(result);
            pending.len()
        };
        let first = waiting == 1;
        if first {
            self.arrived.notify_one();
        }
        let enough = waiting == self.enough.load(Ordering::Acquire);
        if enough {
            self.ready.notify_waiters();
        }
        first || enough
    }

    /// Notes that a fetcher's statement runs.
    pub(super) fn storing(&self) -> Storing<'_> {
        self.storing.fetch_add(1, Ordering::AcqRel);
        Storing(self)
    }

    /// Whether a fetcher's statement runs.
    pub(super) fn is_storing(&self) -> bool {
        self.storing.load(Ordering::Acquire) > 0
    }

    /// Waits while results come thick and fast, until there are `enough`: one commit then stores more
    /// of them. Returns at once where there is none. While the database is busy with another batch of the
    /// queue, nothing is lost by waiting longer, and no core is spent on it.
    pub(super) async fn wait_for_batch(&self, enough: usize) {
        let began = Instant::now();
        let (mut seen, mut last) = (0, began);
        self.enough.store(enough, Ordering::Release);
        loop {
            // Before the look, so that nothing that comes behind it is missed.
            let ready = self.ready.notified();
            let waiting = self.lock().len();
            if waiting == 0 || waiting >= enough {
                return;
            }
            let grown = waiting > seen;
            if grown {
                (seen, last) = (waiting, Instant::now());
            }
            if self.is_storing() {
                if !grown || began.elapsed() > BUSY_GATHER_TIMEOUT {
                    return;
                }
                // Whichever it was, the next look tells.
                let _ = tokio::time::timeout(BUSY_LULL, ready).await;
            } else {
                if last.elapsed() > LULL || began.elapsed() > GATHER_TIMEOUT {
                    return;
                }
                let_others_run().await;
            }
        }
    }

    /// Takes at most `most` results, oldest first.
    pub(super) fn take(&self, most: usize) -> Vec<BufferedResult> {
        let mut pending = self.lock();
        if pending.len() <= most {
            return std::mem::take(&mut pending);
        }
        let rest = pending.split_off(most);
        self.arrived.notify_one();
        std::mem::replace(&mut pending, rest)
    }

    /// Waits until something was added since the last look.
    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// True if nothing waits to be stored.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<BufferedResult>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the results of one queue: buffers them, or stores at once what must be committed with a
/// completion. The job's transaction is open: if it waited for a fetcher, and the fetcher for a
/// connection that such transactions hold all of, neither would go on.
#[derive(Clone)]
pub(super) struct ResultSink {
    pub(super) worker: i64,
    pub(super) pool: PgPool,
    pub(super) notifier: Notifier,
    pub(super) runner: Arc<Runner>,
    pub(super) held: Arc<HeldJobs>,
    pub(super) buffer: Arc<CompletionBuffer>,
    pub(super) idle: Arc<IdleState>,
    pub(super) slots: Slots,
    /// Whether somebody waits for the queue to be empty.
    pub(super) drain: bool,
}

impl ResultSink {
    /// Buffers a result. True if that woke a fetcher.
    pub(super) fn push(&self, result: BufferedResult) -> bool {
        self.buffer.push(result)
    }

    /// Commits a completion with its local writes and follow-ups.
    ///
    /// If the database fails, local writes are gone with their transaction, so the job is released to
    /// be run again; a commit whose answer was lost makes that a no-op by the fence.
    pub(super) async fn commit_completion(&self, result: TransactionalCompletion) {
        let TransactionalCompletion {
            completion,
            next,
            transaction,
            facts,
            retry,
        } = result;
        let stored = async {
            let transaction = match transaction {
                Some(transaction) => transaction,
                None => begin(&self.pool).await?,
            };
            finish::complete_with(transaction, self.worker, &completion, &next).await
        };
        let error = match stored.await {
            Ok(_) => {
                for job in &next {
                    self.notifier.notify(job.queue.name());
                }
                let released = self.held.remove([(completion.id, completion.attempt)]);
                self.slots.give(1);
                if released || self.drain {
                    self.idle.wake();
                }
                return;
            }
            Err(error) => error,
        };
        tracing::warn!(%error, "a completion could not be stored");
        self.push(if is_statement_at_fault(&error) {
            self.runner.refused(facts, retry, &error)
        } else {
            BufferedResult::release_after(
                NOT_STORED_DELAY,
                completion.id,
                completion.attempt,
                NOT_STORED,
            )
        });
    }
}
