//! What comes of an attempt: the words in which the parts of a worker speak of an end before it is stored.

use std::time::Duration;

use jobs::NewJob;
use jobs::contract::Retry;
use sqlx::{Postgres, Transaction};

use crate::queue::claim::Claimed;
use crate::queue::ctid::Ctid;
use crate::queue::finish::{Completion, Discard, Requeue, RequeueReason};

/// Notes of jobs that were released.
pub(super) const STOPPING: &str = "requeued by a stopping worker";
pub(super) const PANICKED: &str = "requeued: the worker panicked, as its log says";
pub(super) const NO_PERMIT: &str =
    "requeued: claimed ahead, but the jobs before it took longer than expected";
pub(super) const NOT_STORED: &str = "its completion could not be stored";

/// What is needed to end an attempt whose job value is gone.
#[derive(Clone, Copy, Debug)]
pub(super) struct AttemptFacts {
    pub(super) id: i64,
    pub(super) attempt: i32,
    pub(super) ctid: Ctid,
    pub(super) failures: i32,
    pub(super) max_attempts: i32,
    pub(super) priority: i16,
}

impl AttemptFacts {
    pub(super) fn of(job: &Claimed) -> Self {
        Self {
            id: job.id,
            attempt: job.attempt,
            ctid: job.ctid,
            failures: job.failures,
            max_attempts: job.max_attempts,
            priority: job.priority,
        }
    }
}

/// What came of an attempt. Exactly one is made for every claim.
#[derive(Debug)]
pub(super) enum AttemptResult {
    /// Done, with local writes or follow-ups that must be committed with it: stored at once.
    Transactional(Box<TransactionalCompletion>),
    /// Everything else.
    Buffered(BufferedResult),
}

/// What a fetcher stores, many of them in one commit.
#[derive(Debug)]
pub(super) enum BufferedResult {
    /// Done, nothing else to write: stored together with the next claim.
    Complete(Completion),
    /// Back to waiting.
    Requeue(Requeue),
    /// The end without success.
    Discard(Discard),
}

/// A completion with what belongs to it.
#[derive(Debug)]
pub(super) struct TransactionalCompletion {
    pub(super) completion: Completion,
    pub(super) next: Vec<NewJob>,
    pub(super) transaction: Option<Transaction<'static, Postgres>>,
    pub(super) facts: AttemptFacts,
    pub(super) retry: Retry,
}

impl BufferedResult {
    /// Back to waiting at once, no attempt charged.
    pub(super) fn release(id: i64, attempt: i32, note: &str) -> Self {
        Self::release_after(Duration::ZERO, id, attempt, note)
    }

    /// The same after a delay: what went wrong here would go wrong again at once.
    pub(super) fn release_after(
        delay: Duration,
        id: i64,
        attempt: i32,
        note: impl Into<String>,
    ) -> Self {
        Self::Requeue(Requeue {
            id,
            attempt,
            delay,
            reason: RequeueReason::Released(Some(note.into())),
        })
    }
}
