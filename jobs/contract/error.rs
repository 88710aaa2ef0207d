//! The one place where a failure is turned into what happens next.

use std::time::Duration;

/// Why a run did not end well.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Polar answered with an error, or not at all.
    #[error(transparent)]
    Polar(#[from] polar::Error),
    /// The database failed.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// Something that the job depends on is not there yet. Uses up no attempt.
    #[error("not there yet: {reason}")]
    NotYet {
        /// What is missing.
        reason: String,
        /// When to look again.
        after: Duration,
    },
    /// A failure that may pass: retried with backoff until the budget is spent.
    #[error("{0}")]
    Retry(String),
    /// This can never succeed.
    #[error("{0}")]
    Discard(String),
}

/// What happens next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A failure: again after a growing delay, until the budget is spent.
    Retry {
        /// Kept in `errors`.
        reason: String,
    },
    /// Not a failure: again after a while, no attempt used up.
    Wait {
        /// How long.
        after: Duration,
        /// Shown in `note` while it waits.
        reason: String,
    },
    /// The end: discarded with its reason.
    Discard {
        /// Kept in `errors`.
        reason: String,
    },
}

impl Error {
    /// Not there yet; look again after a while.
    pub fn not_yet(reason: impl Into<String>, after: Duration) -> Self {
        Self::NotYet {
            reason: reason.into(),
            after,
        }
    }

    /// Can never succeed.
    pub fn discard(reason: impl Into<String>) -> Self {
        Self::Discard(reason.into())
    }

    /// Decides: the only such decision in the house (contract 6.4; polar-domain (i), (l)).
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let reason = self.to_string();
        match self {
            Self::Database(_) | Self::Retry(_) => Verdict::Retry { reason },
            Self::Discard(_) => Verdict::Discard { reason },
            Self::NotYet { after, .. } => Verdict::Wait {
                after: *after,
                reason,
            },
            Self::Polar(error) => polar_verdict(error, reason),
        }
    }
}

/// 429 and a closed gate wait; 401 waits for the probe; 5xx, the network and unreadable answers
/// retry; every other answer of Polar is its last word.
fn polar_verdict(error: &polar::Error, reason: String) -> Verdict {
    match error {
        polar::Error::Held(held) => Verdict::Wait {
            after: held.until,
            reason,
        },
        polar::Error::RateLimited { retry_after, .. } => Verdict::Wait {
            after: *retry_after,
            reason,
        },
        polar::Error::Unauthorized { .. } => Verdict::Wait {
            after: Duration::from_secs(60),
            reason,
        },
        polar::Error::Unavailable { .. }
        | polar::Error::Unreachable { .. }
        | polar::Error::Unreadable { .. } => Verdict::Retry { reason },
        // A wrong URL, version or proxy answers for every job; it is ours to mend, not theirs to die of.
        _ if error.is_misdirected() => Verdict::Retry { reason },
        _ => Verdict::Discard { reason },
    }
}
