//! Results of attempts until a fetcher stores them: while they come thick and fast they are gathered, because a commit
//! costs the same for one as for a thousand.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::result::BufferedResult;
use super::yielding::let_others_run;

/// How long results are gathered at most, and how long after the last one.
const GATHER_TIMEOUT: Duration = Duration::from_millis(1);
const LULL: Duration = Duration::from_micros(30);
/// The same while the database is busy with another batch of the queue.
const BUSY_GATHER_TIMEOUT: Duration = Duration::from_millis(10);
const BUSY_LULL: Duration = Duration::from_millis(1);

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
