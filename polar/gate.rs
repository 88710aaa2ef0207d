//! The seam between the client and whoever decides when calls may go out.
//!
//! Polar counts calls per organization, not per process (polar-domain (i), R29), so the budget is
//! the whole fleet's and lives above this floor. The client only asks before a call and tells what
//! came of it.

use std::{fmt, future::Future, pin::Pin, time::Duration};

/// A boxed future, the same type as `futures::future::BoxFuture`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Which part of the fleet's budget a call draws from, most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CallClass {
    /// Keeps what customers may do right: customers, members, grants, subscriptions.
    Entitlement,
    /// Looks up what a mail needs.
    Mail,
    /// Reports usage and costs.
    Metering,
    /// Backfills and reconciliation: whatever is left over.
    Bulk,
    /// A probe that asks whether Polar answers again, or a person's `doctor`.
    Probe,
}

impl CallClass {
    /// The class as a metric label or log field.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Entitlement => "entitlement",
            Self::Mail => "mail",
            Self::Metering => "metering",
            Self::Bulk => "bulk",
            Self::Probe => "probe",
        }
    }
}

impl fmt::Display for CallClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What came of a call, as far as it matters to the calls that follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Polar answered; also refusals such as 404 and 422.
    Answered,
    /// 429: nobody in the fleet should call for this long.
    RateLimited {
        /// How long Polar asks us to wait; bounded, never zero.
        retry_after: Duration,
    },
    /// 401: the token is refused, and so will be every other call.
    Unauthorized,
    /// Polar is down: a 5xx, a timeout, or no connection. One 500 is no proof (R3 and R13 know
    /// harmless ones), which is why a breaker counts several in a row.
    Down,
    /// The caller dropped the call before an answer came. Says nothing about Polar, but the call
    /// may have been counted there.
    Abandoned,
}

/// Why a call was not made, and how long to wait before asking again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The time to wait from now.
    pub until: Duration,
    /// What the call is waiting for.
    pub reason: HeldReason,
}

/// What a held call is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HeldReason {
    /// The fleet's own budget for this class is used up.
    Budget,
    /// Polar answered 429 to somebody in the fleet.
    RateLimited,
    /// Polar was down several times in a row.
    Breaker,
    /// Polar refuses the token.
    Unauthorized,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = match self.reason {
            HeldReason::Budget => "the call budget is used up",
            HeldReason::RateLimited => "Polar asked us to slow down",
            HeldReason::Breaker => "Polar was down a moment ago",
            HeldReason::Unauthorized => "Polar refuses the access token",
        };
        write!(f, "{reason}; next try in {} ms", self.until.as_millis())
    }
}

/// Asked before each call and told after it.
///
/// Every `enter` that answers `Ok` is followed by exactly one `left`, also when the caller drops
/// the call ([`Answer::Abandoned`]), so an implementation may count calls under way.
pub trait Gate: Send + Sync {
    /// May this call go out now? Waiting a little inside is fine; a long wait is a [`Held`].
    fn enter(&self, class: CallClass) -> BoxFuture<'_, Result<(), Held>>;

    /// What came of a call that `enter` let out.
    fn left(&self, answer: Answer);
}

/// No gate: every call goes out at once. For tests and for single commands.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenGate;

impl Gate for OpenGate {
    fn enter(&self, _class: CallClass) -> BoxFuture<'_, Result<(), Held>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn left(&self, _answer: Answer) {}
}
