//! One attempt: the row is looked up in the registry, run within its time, and its outcome turned
//! into an ending. The one place where the budget of failures is counted.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use jobs::contract::{
    Context, Done, Entry, JobFacts, Outcome, Registry, Retry, Settings, Verdict, priority,
    subject_of,
};
use polar::CallClass;
use sqlx::PgPool;

use crate::queue::claim::Claimed;
use crate::queue::finish::{Completion, Discard, Return};

use super::ending::{Attempted, Ending, Within};
use super::facts::AttemptFacts;
use super::meters;

/// Replaces configured secrets in a text that is about to be stored.
pub type Mask = Arc<dyn Fn(String) -> String + Send + Sync>;

/// Nothing waits longer, whatever an answer asks for: Postgres could not even count it.
const LONGEST_WAIT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Bytes of a reason or note that are kept.
const LONGEST_TEXT: usize = 4096;

/// Everything an attempt needs.
#[derive(Clone)]
pub(super) struct Runner {
    pub(super) registry: Arc<Registry>,
    pub(super) polar: Option<polar::Client>,
    pub(super) pool: PgPool,
    pub(super) settings: Arc<Settings>,
    pub(super) mask: Mask,
}

impl Runner {
    /// Runs one attempt to its end.
    pub(super) async fn run(&self, job: &Claimed) -> Attempted {
        let Some(entry) = self.registry.get(&job.kind) else {
            // Not final: during a deployment an older worker may meet a kind of the next release.
            let reason = format!(
                "no job kind \"{}\" is known to version {}",
                job.kind,
                env!("CARGO_PKG_VERSION")
            );
            return Attempted::Ended(self.fail(job, Retry::DEFAULT, reason));
        };
        let context = self.context(job);
        let outcome =
            tokio::time::timeout(entry.timeout, entry.run(&job.payload.0, &context)).await;
        let attempted = match outcome {
            Ok(Ok(done)) => self.complete(job, entry.retry, done),
            Ok(Err(error)) => Attempted::Ended(self.judge(job, entry, error.verdict())),
            Err(_) => {
                let seconds = entry.timeout.as_secs();
                let reason = format!("took longer than {seconds} s and was cancelled");
                Attempted::Ended(self.fail(job, entry.retry, reason))
            }
        };
        meters::attempt(entry.kind, &attempted);
        attempted
    }

    /// The ending of an attempt that panicked: a failure like any other.
    pub(super) fn panicked(&self, kind: &str, facts: AttemptFacts, panic: &str) -> Attempted {
        let entry = self.registry.get(kind);
        let retry = entry.map_or(Retry::DEFAULT, |entry| entry.retry);
        let reason = format!("panicked: {panic}");
        let attempted = Attempted::Ended(self.fail_with(facts, retry, reason));
        if let Some(entry) = entry {
            meters::attempt(entry.kind, &attempted);
        }
        attempted
    }

    fn complete(&self, job: &Claimed, retry: Retry, done: Done) -> Attempted {
        let ignored = match done.outcome {
            Outcome::Applied => None,
            Outcome::Ignored(reason) => Some(self.words(reason)),
        };
        let facts = AttemptFacts::of(job);
        let completion = Completion {
            id: job.id,
            attempt: job.attempt,
            ignored,
        };
        if done.next.is_empty() && done.transaction.is_none() {
            return Attempted::Ended(Ending::Complete(completion));
        }
        Attempted::Within(Box::new(Within {
            completion,
            next: done.next,
            transaction: done.transaction,
            facts,
            retry,
        }))
    }

    /// The ending of an attempt whose result the database refused for what is in it: a failure like
    /// any other, for trying it again unchanged would refuse it again.
    pub(super) fn refused(&self, facts: AttemptFacts, retry: Retry, error: &sqlx::Error) -> Ending {
        self.fail_with(
            facts,
            retry,
            format!("the database refused the result: {error}"),
        )
    }

    fn judge(&self, job: &Claimed, entry: &Entry, verdict: Verdict) -> Ending {
        match verdict {
            Verdict::Retry { reason } => self.fail(job, entry.retry, reason),
            Verdict::Discard { reason } => Ending::Discard(Discard {
                id: job.id,
                attempt: job.attempt,
                reason: self.words(reason),
            }),
            Verdict::Wait { after, reason } => Ending::Return(Return {
                id: job.id,
                attempt: job.attempt,
                delay: after.min(LONGEST_WAIT).as_secs_f64(),
                failure: None,
                note: Some(self.words(reason)),
            }),
        }
    }

    fn fail(&self, job: &Claimed, retry: Retry, reason: String) -> Ending {
        self.fail_with(AttemptFacts::of(job), retry, reason)
    }

    fn fail_with(&self, facts: AttemptFacts, retry: Retry, reason: String) -> Ending {
        let (id, attempt) = (facts.id, facts.attempt);
        let reason = self.words(reason);
        let failures = facts.failures + 1;
        if failures >= facts.max_attempts {
            return Ending::Discard(Discard {
                id,
                attempt,
                reason,
            });
        }
        let delay = retry.delay(u32::try_from(failures).unwrap_or(1), rand::random());
        Ending::Return(Return {
            id,
            attempt,
            delay: delay.as_secs_f64(),
            failure: Some(reason),
            note: None,
        })
    }

    /// A text that may be stored: no secrets, nothing that Postgres refuses, no novel.
    fn words(&self, text: String) -> String {
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
                subject_of(&job.payload.0).map_or(polar.clone(), |id| polar.with_subject(&id))
            }),
            pool: self.pool.clone(),
            settings: Settings::clone(&self.settings),
            job: JobFacts {
                id: job.id,
                attempt: job.attempt,
                failures: u32::try_from(job.failures).unwrap_or(0),
                max_attempts: u32::try_from(job.max_attempts).unwrap_or(1),
                events: job.events.clone().unwrap_or_default(),
                started_at: Utc::now(),
            },
        }
    }
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
