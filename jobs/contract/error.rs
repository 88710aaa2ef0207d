//! The one place where a failure is turned into what happens next.

use std::time::Duration;

/// Why a run did not end well.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Polar answered with an error, or not at all.
    #[error(transparent)]
    Polar(#[from] polar::Error),
    /// The support desk refused, or did not answer.
    #[error(transparent)]
    Plain(#[from] plain::Error),
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

    /// Decides what happens next: the only such decision in the codebase.
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
            Self::Plain(error) => plain_verdict(error, reason),
        }
    }
}

/// How long a call waits that was refused for the token or for a scope of it. The rate limiter tries
/// either once a minute, and rejects the others with the time that is left.
const TOKEN_DELAY: Duration = Duration::from_secs(60);

/// What a job does not decide for itself. What says nothing about the job waits and uses up no
/// attempt: a rejected call, 429, a refused token, a missing scope. What may pass is a failure that
/// is retried. Everything else is Polar's last word.
fn polar_verdict(error: &polar::Error, reason: String) -> Verdict {
    match error {
        polar::Error::Rejected(rejected) => Verdict::Wait {
            after: rejected.retry_after,
            reason,
        },
        polar::Error::RateLimited { retry_after, .. } => Verdict::Wait {
            after: *retry_after,
            reason,
        },
        polar::Error::Unauthorized { .. } | polar::Error::MissingScope { .. } => Verdict::Wait {
            after: TOKEN_DELAY,
            reason,
        },
        polar::Error::Unavailable { .. }
        | polar::Error::Unreachable { .. }
        | polar::Error::Intermediary { .. }
        | polar::Error::Unreadable { .. } => Verdict::Retry { reason },
        // Somebody else is changing the same subscription.
        polar::Error::Conflict { error, .. } if error == "SubscriptionLocked" => {
            Verdict::Retry { reason }
        }
        // A wrong URL or route answers for every job, and is repaired by us.
        _ if error.is_misdirected() => Verdict::Retry { reason },
        _ => Verdict::Discard { reason },
    }
}

/// What says nothing about the job waits: Plain is down, busy, or refuses the token. Everything else may
/// pass: Plain does not say which of its refusals are final.
fn plain_verdict(error: &plain::Error, reason: String) -> Verdict {
    match error {
        plain::Error::NotSent { .. } => Verdict::Discard { reason },
        _ => match error.retry_after() {
            Some(after) => Verdict::Wait { after, reason },
            None => Verdict::Retry { reason },
        },
    }
}
