//! A job that is to be written: what the queue's enqueue takes.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::subject::subject_of_value;
use super::{Job, Queue};

/// A job before it has a row.
#[derive(Clone, Debug, PartialEq)]
pub struct NewJob {
    /// The registered kind.
    pub kind: &'static str,
    /// A JSON object.
    pub payload: Value,
    /// The queue it waits in.
    pub queue: Queue,
    /// Lower runs first.
    pub priority: i16,
    /// Not before; `None` = at once.
    pub run_at: Option<DateTime<Utc>>,
    /// Among waiting jobs at most one has this key.
    pub unique_key: Option<String>,
    /// Jobs of one key run one at a time, in commit order.
    pub ordering_key: Option<String>,
    /// Failures after which it is discarded.
    pub max_attempts: u16,
    /// The external event that caused it.
    pub event: Option<i64>,
}

impl NewJob {
    /// The row of a job value, with the policy of its kind.
    ///
    /// # Panics
    /// If the payload does not serialize to a JSON object, which is a mistake in the job's type.
    #[must_use]
    pub fn of<J: Job>(job: &J) -> Self {
        let payload =
            serde_json::to_value(job).expect("a job's payload is plain data and serializes");
        assert!(
            payload.is_object(),
            "the payload of {} must be a struct",
            J::KIND
        );
        Self {
            kind: J::KIND,
            payload,
            queue: J::QUEUE,
            priority: J::PRIORITY,
            run_at: None,
            unique_key: job.unique_key(),
            ordering_key: job.ordering_key(),
            max_attempts: J::RETRY.attempts,
            event: None,
        }
    }

    /// Returns the id of the customer that it is about; `None` where its payload names none.
    #[must_use]
    pub fn subject(&self) -> Option<String> {
        subject_of_value(&self.payload)
    }

    /// The same, not before `run_at`; a duplicate that may run earlier brings it forward.
    #[must_use]
    pub fn at(mut self, run_at: DateTime<Utc>) -> Self {
        self.run_at = Some(run_at);
        self
    }

    /// The same, caused by a stored external event.
    #[must_use]
    pub fn caused_by(mut self, event: i64) -> Self {
        self.event = Some(event);
        self
    }

    /// The same with another priority.
    #[must_use]
    pub fn with_priority(mut self, priority: i16) -> Self {
        self.priority = priority;
        self
    }
}
