//! The claims that a process holds: what it must not lose, nor take for lost, when a connection breaks.

use std::sync::{Mutex, PoisonError};

use foldhash::HashMap;

use crate::queue::claim::Claimed;
use crate::queue::finish::Completion;

/// A claim that this process holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    attempt: i32,
    ordered: bool,
    fetcher: i16,
}

/// The claims that this process holds, of all queues. Each is looked up several times, and nobody outside chooses
/// the ids: so the hash is a fast one.
#[derive(Debug, Default)]
pub(super) struct HeldJobs(Mutex<HashMap<i64, Held>>);

impl HeldJobs {
    /// Notes what a fetch connection claimed.
    pub(super) fn add(&self, fetcher: i16, jobs: &[Claimed]) {
        let held = |job: &Claimed| {
            let held = Held {
                attempt: job.attempt,
                ordered: job.ordered,
                fetcher,
            };
            (job.id, held)
        };
        self.lock().extend(jobs.iter().map(held));
    }

    /// Forgets claims, by row and attempt, whose end is stored: the row may be claimed again here
    /// already. True if one of them had an ordering key, so that another job may be free to run now.
    pub(super) fn remove(&self, claims: impl IntoIterator<Item = (i64, i32)>) -> bool {
        let mut held = self.lock();
        let mut ordered = false;
        for (id, attempt) in claims {
            if held.get(&id).is_some_and(|claim| claim.attempt == attempt) {
                ordered |= held.remove(&id).is_some_and(|claim| claim.ordered);
            }
        }
        ordered
    }

    /// What this fetch connection claimed and the process still holds once `completions` are stored.
    pub(super) fn beside(&self, fetcher: i16, completions: &[Completion]) -> Vec<i64> {
        let ended: HashMap<i64, i32> = completions.iter().map(|c| (c.id, c.attempt)).collect();
        self.lock()
            .iter()
            .filter(|(id, held)| held.fetcher == fetcher && ended.get(id) != Some(&held.attempt))
            .map(|(id, _)| *id)
            .collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<i64, Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
