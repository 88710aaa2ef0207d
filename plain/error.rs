//! What can come of a call, in kinds that lead to different actions.
//!
//! No error holds a request, a token or an address: errors are stored in the job table and read by
//! people. What Plain says in its own words is kept, shortened and without addresses.

use std::fmt;
use std::time::Duration;

use crate::Operation;

/// Why a call did not give what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing was sent, or what was sent found Plain closed for everybody: says nothing about this
    /// call. Ask again after the time given.
    #[error("{operation}: {reason}; next try in {} s", .retry_after.as_secs())]
    Held {
        /// What was asked.
        operation: Operation,
        /// What is waited for.
        reason: HeldReason,
        /// The time to wait from now.
        retry_after: Duration,
    },

    /// This call failed, although Plain answers others.
    #[error("{operation}: {detail}")]
    Failed {
        /// What was asked.
        operation: Operation,
        /// A status, or how the exchange ended.
        detail: String,
    },

    /// Plain says why it did not do it.
    #[error("{operation}: refused ({code}): {message}")]
    Refused {
        /// What was asked.
        operation: Operation,
        /// Plain's fixed code, such as `not_found`.
        code: String,
        /// Plain's words, without addresses.
        message: String,
    },

    /// A success that is not what the operation promises.
    #[error("{operation}: Plain's answer cannot be read: {reason}")]
    Unreadable {
        /// What was asked.
        operation: Operation,
        /// What is wrong, without the content.
        reason: &'static str,
    },

    /// The client only reads; see [`crate::Client::read_only`].
    #[error("{operation} was not sent")]
    NotSent {
        /// What would have been asked.
        operation: Operation,
    },
}

/// Why nobody calls Plain at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldReason {
    /// It does not answer.
    Down,
    /// It asked everybody to slow down.
    RateLimited,
    /// It refuses the token, or the token may not do this.
    Unauthorized,
}

impl fmt::Display for HeldReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Down => "Plain is down",
            Self::RateLimited => "Plain asks us to slow down",
            Self::Unauthorized => "Plain refuses the token or what it may do; check PLAIN_TOKEN",
        })
    }
}

impl Error {
    /// The time to wait, where the failure says nothing about this call.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Held { retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }

    /// Plain does not know somebody or something that the call names.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "not_found")
    }
}

/// The longest text of Plain's that is kept, in characters.
const LONGEST_TEXT: usize = 300;

/// Plain's words without addresses of people.
pub(crate) fn without_addresses(text: &str) -> String {
    let words = text.split_whitespace().map(|word| {
        if word.contains('@') {
            "(an address)"
        } else {
            word
        }
    });
    let text = words.collect::<Vec<_>>().join(" ");
    text.chars().take(LONGEST_TEXT).collect()
}
