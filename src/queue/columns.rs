//! Many jobs as columns, one array each: what the statements that write them take for `unnest`.

use chrono::{DateTime, Utc};
use jobs::NewJob;

use super::payload::Payload;

/// The columns of a batch of jobs. What caused them is not among them: one writer knows the event of each job, another
/// writes the events with them.
#[derive(Debug, Default)]
pub struct JobColumns<'a> {
    /// Which jobs.
    pub kinds: Vec<&'a str>,
    /// What they are about.
    pub payloads: Vec<Payload<'a>>,
    /// Where they wait.
    pub queues: Vec<&'a str>,
    /// When they are due; `None` = at once.
    pub run_ats: Vec<Option<DateTime<Utc>>>,
    /// Lower runs first.
    pub priorities: Vec<i16>,
    /// At most one job with such a key waits.
    pub unique_keys: Vec<Option<&'a str>>,
    /// Jobs of one such key run one at a time.
    pub ordering_keys: Vec<Option<&'a str>>,
    /// Failures after which they are discarded.
    pub max_attempts: Vec<i32>,
}

impl<'a> FromIterator<&'a NewJob> for JobColumns<'a> {
    fn from_iter<T: IntoIterator<Item = &'a NewJob>>(jobs: T) -> Self {
        let mut columns = Self::default();
        for job in jobs {
            columns.kinds.push(job.kind);
            columns.payloads.push(Payload(&job.payload));
            columns.queues.push(job.queue.name());
            columns.run_ats.push(job.run_at);
            columns.priorities.push(job.priority);
            columns.unique_keys.push(job.unique_key.as_deref());
            columns.ordering_keys.push(job.ordering_key.as_deref());
            columns.max_attempts.push(i32::from(job.max_attempts));
        }
        columns
    }
}
