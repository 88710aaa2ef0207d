//! The seam between the client and whoever decides when calls may go out.
//!
//! Polar counts calls per organization, whichever process and token makes them, so the budget is
//! the whole fleet's and lives above this crate. The client only asks before a call and records
//! what came of it.

use std::{
    fmt,
    future::Future,
    hash::{DefaultHasher, Hash, Hasher},
    pin::Pin,
    time::Duration,
};

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

/// Whom calls are about: one customer. Only good for telling subjects apart within a process; the
/// id itself is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subject(u64);

impl Subject {
    /// The subject with this id, whichever kind of id that is.
    #[must_use]
    pub fn of(id: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// What a rate limiter needs to know of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallFacts {
    /// Which part of the budget it draws from.
    pub class: CallClass,
    /// The scope that the token needs for it; `None` where none is known.
    pub scope: Option<&'static str>,
}

/// Leave to make one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Make the call.
    Call,
    /// First make a harmless call that is about nobody, record its answer, and ask again. Whether
    /// Polar is up, or takes the token, must not be judged by a call that may fail for reasons of
    /// its own.
    Probe,
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
    /// 403 for a scope that the token lacks: every other call that needs it will be refused too.
    MissingScope,
    /// No answer of Polar's: a 5xx, a timeout, no connection, or a refusal by something in between.
    Down {
        /// Whom the failure may be about; `None` if it is about nobody in particular.
        subject: Option<Subject>,
    },
    /// The caller dropped the call before an answer came. Says nothing about Polar, but the call
    /// may have been counted there.
    Abandoned,
}

/// A call that was not made, and when to ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The time to wait from now.
    pub retry_after: Duration,
    /// What the call is waiting for.
    pub reason: RejectedReason,
}

/// What a rejected call is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RejectedReason {
    /// The fleet's own budget for this class is used up.
    Budget,
    /// What is left of that budget is not known: the database that keeps it failed or answered late.
    BudgetUnknown,
    /// As many calls as allowed are under way in this process.
    InFlight,
    /// Polar answered 429 to somebody in the fleet.
    RateLimited,
    /// Polar was down several times in a row.
    Breaker,
    /// Polar refuses the token.
    Unauthorized,
    /// The token lacks this scope.
    MissingScope(&'static str),
}

impl RejectedReason {
    /// The reason as a metric label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Budget => "budget",
            Self::BudgetUnknown => "budget_unknown",
            Self::InFlight => "in_flight",
            Self::RateLimited => "rate_limited",
            Self::Breaker => "breaker",
            Self::Unauthorized => "unauthorized",
            Self::MissingScope(_) => "missing_scope",
        }
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            RejectedReason::Budget => f.write_str("the call budget is used up"),
            RejectedReason::BudgetUnknown => {
                f.write_str("the call budget is unknown, as the database failed or answered late")
            }
            RejectedReason::InFlight => f.write_str("too many calls are under way"),
            RejectedReason::RateLimited => f.write_str("Polar asked us to slow down"),
            RejectedReason::Breaker => f.write_str("Polar was down a moment ago"),
            RejectedReason::Unauthorized => f.write_str("Polar refuses the access token"),
            RejectedReason::MissingScope(scope) => {
                write!(f, "the access token lacks the scope {scope}")
            }
        }?;
        match self.retry_after.as_millis() {
            millis @ ..1000 => write!(f, "; next try in {millis} ms"),
            millis @ ..120_000 => write!(f, "; next try in {} s", millis.div_ceil(1000)),
            millis => write!(f, "; next try in {} min", millis.div_ceil(60_000)),
        }
    }
}

/// Asked before each call and informed after it.
///
/// Every `acquire` that returns `Ok` is followed by exactly one `record`, also when the caller
/// drops the call ([`Answer::Abandoned`]), so an implementation may count calls under way.
pub trait RateLimiter: Send + Sync {
    /// May this call go out now? Waiting a little inside is fine; a long wait is a [`Rejected`].
    fn acquire(&self, call: CallFacts) -> BoxFuture<'_, Result<Admission, Rejected>>;

    /// What came of a call, or of the probe before it.
    fn record(&self, call: CallFacts, admission: Admission, answer: Answer);
}

/// No limit: every call goes out at once. For tests and for single commands.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unlimited;

impl RateLimiter for Unlimited {
    fn acquire(&self, _: CallFacts) -> BoxFuture<'_, Result<Admission, Rejected>> {
        Box::pin(std::future::ready(Ok(Admission::Call)))
    }

    fn record(&self, _: CallFacts, _: Admission, _: Answer) {}
}
