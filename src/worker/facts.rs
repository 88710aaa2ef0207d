//! What an attempt's ending needs to know of its job.

use crate::queue::claim::Claimed;

/// What is needed to end an attempt whose job value is gone.
#[derive(Clone, Copy, Debug)]
pub(super) struct AttemptFacts {
    pub(super) id: i64,
    pub(super) attempt: i32,
    pub(super) failures: i32,
    pub(super) max_attempts: i32,
}

impl AttemptFacts {
    pub(super) fn of(job: &Claimed) -> Self {
        Self {
            id: job.id,
            attempt: job.attempt,
            failures: job.failures,
            max_attempts: job.max_attempts,
        }
    }
}
