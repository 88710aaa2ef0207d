//! The one place where a failure is turned into what happens next.

use std::time::Duration;

/// Why a run did not end well. [`Error::verdict`] turns it into one of three ends; a handler that returns an error
/// decides between them, and `?` on a call or a query decides well enough for most.
///
/// | | waits: [`Error::NotYet`], [`Error::Unavailable`], 429, refused token, a database that takes no writes | fails: [`Error::Retry`], any other database or network error | is discarded: [`Error::Discard`] |
/// |---|---|---|---|
/// | Row | back to waiting, `note` says why | back to waiting | in the history, state `discarded` |
/// | Budget | untouched; `attempt`, the number of claims, grows all the same | one entry of `errors` more; with the last one (`max_attempts`) the job is discarded | one entry of `errors` |
/// | Next run | after the delay given, at most 30 days; the next claim is up to a second later | [`Retry`](super::Retry): growing and jittered | none, until somebody says `jobs retry` |
/// | Ordering key | kept: the jobs behind it wait as long | kept | free: the next job of the key runs |
/// | A job that came meanwhile with its unique key | merged into this one, which runs at the earlier of both times | the same, and its failures stay counted | runs |
/// | Its events | not handled yet | not handled yet, `failed` once the budget is spent | `failed` |
/// | Log | nothing | one line, a warning | one line, an error |
///
/// In every case the transaction of [`Context::begin`](super::Context::begin) is rolled back and nothing follows:
/// what must be kept although the run ends in an error is committed by the handler itself, before it returns, and
/// is found by the next run. A panic, or a run beyond [`Job::TIMEOUT`](super::Job::TIMEOUT), is a failure; so is the
/// death of the worker process. A worker that stops requeues what it holds at once, and the budget is untouched.
///
/// Nothing limits how often a job waits. One that waits for something that may never come must say itself when it
/// has been long enough:
///
/// ```
/// use std::time::Duration;
///
/// use jobs::contract::{Context, Done, Error, Job};
/// use jobs::types::OrganizationId;
/// use serde::{Deserialize, Serialize};
///
/// /// Writes a greeting to an organization that Polar knows.
/// #[derive(Serialize, Deserialize)]
/// struct Greet {
///     organization_id: OrganizationId,
/// }
///
/// impl Job for Greet {
///     const KIND: &'static str = "greet";
///
///     async fn run(self, context: &Context) -> Result<Done, Error> {
///         let Some(polar) = &context.polar else {
///             return Ok(Done::ignored("billing is not configured"));
///         };
///         let id = self.organization_id.to_string();
///         let customer = match polar.customers().get_by_external_id(&id).await {
///             Ok(customer) => customer,
///             Err(error) if error.is_not_found() => {
///                 // `attempt` counts the waits as well, so they can be bounded.
///                 return Err(match context.job.attempt {
///                     ..100 => Error::not_yet("there is no customer yet", Duration::from_secs(60)),
///                     _ => Error::discard("Polar has had no customer for more than an hour"),
///                 });
///             }
///             // An outage is a failure, a 429 a wait: the conversion leaves that to `Error::verdict`.
///             Err(error) => return Err(error.into()),
///         };
///         if customer.email.is_none() {
///             return Err(Error::Retry("the customer has no address".to_owned()));
///         }
///         Ok(Done::applied())
///     }
/// }
/// ```
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
    /// What is asked for everybody, a mail server or the application, does not answer. The work stays due, so that
    /// it is seen to be late. Uses up no attempt.
    #[error("{reason}")]
    Unavailable {
        /// What does not answer, and how.
        reason: String,
        /// When to ask again.
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
        /// Whether the work is due all the same, as while Polar is not to be asked. False where there
        /// is nothing to do yet.
        still_due: bool,
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
            Self::Database(error) if takes_no_writes(error) => Verdict::Wait {
                after: READ_ONLY_DELAY,
                reason,
                still_due: true,
            },
            Self::Database(_) | Self::Retry(_) => Verdict::Retry { reason },
            Self::Discard(_) => Verdict::Discard { reason },
            Self::NotYet { after, .. } => Verdict::Wait {
                after: *after,
                reason,
                still_due: false,
            },
            Self::Unavailable { after, .. } => Verdict::Wait {
                after: *after,
                reason,
                still_due: true,
            },
            Self::Polar(error) => polar_verdict(error, reason),
            Self::Plain(error) => plain_verdict(error, reason),
        }
    }
}

/// How long a job waits for a database that takes no writes.
const READ_ONLY_DELAY: Duration = Duration::from_secs(10);

/// Whether the connection leads to a standby, as for a moment after a failover, or the database is set to be read only:
/// that says nothing about the job.
fn takes_no_writes(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| code == "25006")
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
            still_due: true,
        },
        polar::Error::RateLimited { retry_after, .. } => Verdict::Wait {
            after: *retry_after,
            reason,
            still_due: true,
        },
        _ if error.is_about_token() => Verdict::Wait {
            after: TOKEN_DELAY,
            reason,
            still_due: true,
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
            Some(after) => Verdict::Wait {
                after,
                reason,
                still_due: true,
            },
            None => Verdict::Retry { reason },
        },
    }
}
