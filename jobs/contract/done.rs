//! What a handler returns when it is done.

use sqlx::{Postgres, Transaction};

use super::NewJob;

/// The end of a successful run: what became of the cause, what follows, and the transaction in
/// which the handler wrote its result. The worker writes follow-ups and completion into that
/// transaction (or one of its own) and commits: all of it happens, or none.
#[derive(Debug, Default)]
pub struct Done {
    /// What became of the events that caused the job.
    pub outcome: Outcome,
    /// Jobs that follow from this one.
    pub next: Vec<NewJob>,
    /// Local writes to be committed together with the completion.
    pub transaction: Option<Transaction<'static, Postgres>>,
}

/// What became of the job's cause.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// The end state is as wanted.
    #[default]
    Applied,
    /// There was nothing to do; the reason is shown to operators. No personal data.
    Ignored(String),
}

impl Done {
    /// Done, nothing follows.
    #[must_use]
    pub fn applied() -> Self {
        Self::default()
    }

    /// Nothing to do, because of `reason`.
    #[must_use]
    pub fn ignored(reason: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::Ignored(reason.into()),
            ..Self::default()
        }
    }

    /// The same with jobs that follow.
    #[must_use]
    pub fn then(mut self, next: impl IntoIterator<Item = NewJob>) -> Self {
        self.next.extend(next);
        self
    }

    /// The same with local writes to be committed together with the completion.
    #[must_use]
    pub fn within(mut self, transaction: Transaction<'static, Postgres>) -> Self {
        self.transaction = Some(transaction);
        self
    }
}
