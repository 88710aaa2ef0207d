//! What comes of an action on a job.

use super::State;

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acted {
    /// A waiting job now runs as soon as a slot is free; `blocked`: once its ordering key is free.
    RunsNow {
        /// Whether an earlier job has its key.
        blocked: bool,
    },
    /// A finished job waits again.
    WaitsAgain {
        /// Whether another job has its ordering key.
        blocked: bool,
    },
    /// An unfinished job has ended; `running`: its worker may still be at it, and what the worker
    /// stores afterwards changes nothing.
    Ended {
        /// Whether a worker had it.
        running: bool,
    },
    /// Nothing warns of the discarded job any more.
    Acknowledged,
    /// Another job waits with the same unique key, so this one is not needed.
    DuplicateWaits {
        /// That job.
        duplicate: i64,
    },
    /// Its state does not allow it.
    Refused {
        /// The state in which it is.
        state: State,
    },
    /// There is no such job.
    Unknown,
}
