//! One attempt: the row is looked up in the registry, run within its time, and its outcome turned into a
//! result. The one place where the budget of failures is counted, and where a failed attempt is logged.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use jobs::contract::{
    Context, Done, Entry, JobFacts, NewJob, Outcome, Registry, Retry, Settings, Verdict, priority,
    subject_of,
};
use jobs::mail::Mailer;
use polar::CallClass;
use rand::RngExt;
use serde::Deserialize;
use sqlx::PgPool;
use tokio::time::timeout;
use tracing::{Instrument, Span};

use crate::queue::claim::Claimed;
use crate::queue::finish::{Completion, Discard, Requeue, RequeueReason};

use super::follow_ups::{caused_by, no_more_urgent};
use super::metrics::{self, AttemptMetrics};
use super::result::{AttemptFacts, AttemptResult, BufferedResult, TransactionalCompletion};
use super::sync_lag::SyncLag;
use super::watched::Watched;

/// Replaces configured secrets in a text that is about to be stored.
pub type Mask = Arc<dyn Fn(String) -> String + Send + Sync>;

/// Nothing waits longer, whatever an answer asks for: Postgres could not even count it.
const LONGEST_DELAY: Duration = Duration::from_secs(30 * 24 * 3600);
/// Until a job of an unknown kind is looked at again; up to twice that.
const UNKNOWN_KIND_DELAY: Duration = Duration::from_secs(30);
/// Bytes of a reason or note that are kept.
const LONGEST_TEXT: usize = 4096;

/// Everything an attempt needs.
pub(super) struct AttemptRunner {
    pub(super) registry: Arc<Registry>,
    pub(super) polar: Option<polar::Client>,
    pub(super) mail: Option<Mailer>,
    pub(super) pool: PgPool,
    pub(super) settings: Arc<Settings>,
    pub(super) mask: Mask,
    pub(super) metrics: AttemptMetrics,
    pub(super) sync_lag: Arc<SyncLag>,
}

impl AttemptRunner {
    /// Runs one attempt to its end. Returns its result and how long it ran. Dropped on the way, the attempt
    /// is cancelled.
    pub(super) async fn run(&self, job: Claimed, watched: &Watched) -> (AttemptResult, Duration) {
        let Some(entry) = self.registry.get(&job.kind) else {
            let result = AttemptResult::Buffered(self.unknown_kind(&job));
            return (result, Duration::ZERO);
        };
        let span = span(&job);
        watched.begins(entry.timeout, &span);
        let ended = self.attempt(entry, job).instrument(span).await;
        watched.ends();
        ended
    }

    async fn attempt(&self, entry: &Entry, job: Claimed) -> (AttemptResult, Duration) {
        self.metrics.started(entry, &job);
        let facts = AttemptFacts::of(&job);
        let context = self.context(&job);
        let begun = Instant::now();
        // After a panic, in the job or where it is dropped at its timeout, nothing that it used is read again.
        let work = AssertUnwindSafe(async {
            timeout(entry.timeout, async {
                entry.run(&job.payload, &context).await
            })
            .await
        });
        let ended = work.catch_unwind().await;
        let took = begun.elapsed();
        let fail = |reason| AttemptResult::Buffered(self.fail(facts, entry.retry, reason));
        let seconds = entry.timeout.as_secs_f64();
        let result = match ended {
            // A job that computes without awaiting cannot be cancelled: that it took too long shows only here.
            Ok(Ok(_)) if took > entry.timeout => fail(format!("took longer than {seconds} s")),
            Ok(Ok(Ok(done))) => {
                let events = job.events.as_deref().unwrap_or_default();
                if entry.syncs && holds(&done, &job) {
                    self.sync_lag.applied(entry.kind, events);
                }
                complete(facts, entry.retry, done, events, |text| self.text(text))
            }
            Ok(Ok(Err(error))) => {
                AttemptResult::Buffered(self.judge(facts, entry, error.verdict()))
            }
            Err(panic) if took <= entry.timeout => {
                fail(format!("panicked: {}", panic_message(&*panic)))
            }
            Ok(Err(_)) | Err(_) => fail(format!("took longer than {seconds} s and was cancelled")),
        };
        self.metrics.ended(entry, &result, took);
        if let AttemptResult::Buffered(result) = &result {
            log(result);
        }
        (result, took)
    }

    /// The result of an attempt whose writes the database refused for what is in them: a failure like
    /// any other, for trying it again unchanged would refuse it again.
    pub(super) fn refused(
        &self,
        facts: AttemptFacts,
        retry: Retry,
        error: &sqlx::Error,
    ) -> BufferedResult {
        let result = self.fail(
            facts,
            retry,
            format!("the database refused the result: {error}"),
        );
        log(&result);
        result
    }

    /// Not a failure: during a deployment an older worker may meet a kind of the next release.
    fn unknown_kind(&self, job: &Claimed) -> BufferedResult {
        metrics::unknown_kind();
        let delay = UNKNOWN_KIND_DELAY.mul_f64(1.0 + rand::rng().random::<f64>());
        let note = format!(
            "no job kind \"{}\" is known to version {}; waits for a worker that knows it",
            job.kind,
            env!("CARGO_PKG_VERSION")
        );
        BufferedResult::release_after(delay, job.id, job.attempt, note)
    }

    fn judge(&self, facts: AttemptFacts, entry: &Entry, verdict: Verdict) -> BufferedResult {
        match verdict {
            Verdict::Retry { reason } => self.fail(facts, entry.retry, reason),
            Verdict::Discard { reason } => BufferedResult::Discard(Discard {
                id: facts.id,
                attempt: facts.attempt,
                reason: self.text(reason),
            }),
            Verdict::Wait {
                after,
                reason,
                still_due,
            } => {
                let note = self.text(reason);
                BufferedResult::Requeue(Requeue {
                    id: facts.id,
                    attempt: facts.attempt,
                    delay: after.min(LONGEST_DELAY),
                    reason: match still_due {
                        true => RequeueReason::Released(Some(note)),
                        false => RequeueReason::Snoozed(note),
                    },
                })
            }
        }
    }

    fn fail(&self, facts: AttemptFacts, retry: Retry, reason: String) -> BufferedResult {
        let (id, attempt) = (facts.id, facts.attempt);
        let reason = self.text(reason);
        let failures = facts.failures + 1;
        if failures >= facts.max_attempts {
            return BufferedResult::Discard(Discard {
                id,
                attempt,
                reason,
            });
        }
        let delay = retry.delay(u32::try_from(failures).unwrap_or(1), rand::random());
        BufferedResult::Requeue(Requeue {
            id,
            attempt,
            delay,
            reason: RequeueReason::Failed(reason),
        })
    }

    /// A text that may be stored: without secrets and NUL bytes, and at most [`LONGEST_TEXT`] bytes.
    fn text(&self, text: String) -> String {
        let mut text = (self.mask)(text.replace('\0', ""));
        if text.len() > LONGEST_TEXT {
            text.truncate(text.floor_char_boundary(LONGEST_TEXT));
            text.push('…');
        }
        text
    }

    fn context(&self, job: &Claimed) -> Context {
        Context {
            polar: self.polar.as_ref().map(|polar| {
                let polar = polar.with_class(class_of(job.priority));
                subject_of(&job.payload).map_or(polar.clone(), |id| polar.with_subject(&id))
            }),
            mail: self.mail.clone(),
            pool: self.pool.clone(),
            settings: Arc::clone(&self.settings),
            job: JobFacts {
                id: job.id,
                attempt: job.attempt,
                failures: u32::try_from(job.failures).unwrap_or(0),
                max_attempts: u32::try_from(job.max_attempts).unwrap_or(1),
                events: job.events.clone().unwrap_or_default(),
                started_at: job.started_at,
            },
        }
    }
}

fn complete(
    facts: AttemptFacts,
    retry: Retry,
    done: Done,
    events: &[i64],
    text: impl FnOnce(String) -> String,
) -> AttemptResult {
    let completion = Completion {
        id: facts.id,
        attempt: facts.attempt,
        ctid: facts.ctid,
        ignored: match done.outcome {
            Outcome::Applied => None,
            Outcome::Ignored(reason) => Some(text(reason)),
        },
    };
    if done.next.is_empty() && done.transaction.is_none() {
        return AttemptResult::Buffered(BufferedResult::Complete(completion));
    }
    AttemptResult::Transactional(Box::new(TransactionalCompletion {
        completion,
        next: caused_by(events, no_more_urgent(facts.priority, done.next)),
        transaction: done.transaction,
        facts,
        retry,
    }))
}

/// Whether what the job is about holds now: it was applied, and does not go on as a follow-up.
fn holds(done: &Done, job: &Claimed) -> bool {
    let goes_on = |next: &NewJob| {
        let payload = serde_json::from_str::<serde_json::Value>(&job.payload);
        next.kind == job.kind && payload.is_ok_and(|payload| next.payload == payload)
    };
    done.outcome == Outcome::Applied && !done.next.iter().any(goes_on)
}

/// What every line of an attempt carries. The fields are not computed where nobody logs.
fn span(job: &Claimed) -> Span {
    tracing::info_span!(
        "attempt",
        job = job.id,
        kind = job.kind.as_str(),
        attempt = job.attempt,
        organization = organization_in(&job.payload),
    )
}

/// The organization that a payload is about, where it says so.
fn organization_in(payload: &str) -> Option<&str> {
    #[derive(Deserialize)]
    struct About<'a> {
        #[serde(borrow)]
        organization_id: Option<&'a str>,
        #[serde(borrow)]
        external_customer_id: Option<&'a str>,
    }
    let about: About<'_> = serde_json::from_str(payload).ok()?;
    about.organization_id.or(about.external_customer_id)
}

/// One line for each attempt that did not do its work; the span says which.
fn log(result: &BufferedResult) {
    match result {
        BufferedResult::Requeue(Requeue {
            reason: RequeueReason::Failed(error),
            delay,
            ..
        }) => tracing::warn!(
            error,
            next_run_in_seconds = delay.as_secs_f64(),
            "the attempt failed"
        ),
        BufferedResult::Discard(discard) => {
            tracing::error!(error = discard.reason, "the job is discarded");
        }
        BufferedResult::Requeue(_) | BufferedResult::Complete(_) => {}
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

/// How urgent a job's calls are, unless it says otherwise: as urgent as itself.
fn class_of(priority: i16) -> CallClass {
    match priority {
        ..priority::MAIL => CallClass::Entitlement,
        priority::MAIL..priority::METERING => CallClass::Mail,
        priority::METERING..priority::BACKFILL => CallClass::Metering,
        priority::BACKFILL.. => CallClass::Bulk,
    }
}
