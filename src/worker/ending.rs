//! How an attempt ended, before it is stored.

use jobs::NewJob;
use jobs::contract::Retry;
use sqlx::{Postgres, Transaction};

use crate::queue::finish::{Completion, Discard, Return};

use super::facts::AttemptFacts;

/// Notes of jobs that were handed back.
pub(super) const STOPPING: &str = "handed back by a stopping worker";
pub(super) const NO_SEAT: &str =
    "handed back: claimed ahead, but the jobs before it took longer than expected";

/// What came of an attempt. Exactly one is made for every claim.
#[derive(Debug)]
pub(super) enum Attempted {
    /// Done, with local writes or follow-ups that must be committed with it: stored at once.
    Within(Box<Within>),
    /// Everything else: a lane stores it.
    Ended(Ending),
}

/// How an attempt ended that a lane stores, many of them in one commit.
#[derive(Debug)]
pub(super) enum Ending {
    /// Done, nothing else to write: stored together with the next claim.
    Complete(Completion),
    /// Back to waiting.
    Return(Return),
    /// The end without success.
    Discard(Discard),
}

/// A completion with what belongs to it.
#[derive(Debug)]
pub(super) struct Within {
    pub(super) completion: Completion,
    pub(super) next: Vec<NewJob>,
    pub(super) transaction: Option<Transaction<'static, Postgres>>,
    pub(super) facts: AttemptFacts,
    pub(super) retry: Retry,
}

impl Ending {
    /// Back to waiting at once, no attempt charged.
    pub(super) fn hand_back(id: i64, attempt: i32, note: &str) -> Self {
        Self::Return(Return {
            id,
            attempt,
            delay: 0.0,
            failure: None,
            note: Some(note.to_owned()),
        })
    }
}
