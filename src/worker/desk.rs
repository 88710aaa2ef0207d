//! Where running jobs leave their endings and lanes collect them.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::ending::Ending;

/// Endings that wait to be stored, and the ids that this process holds. In memory only: what is
/// lost with the process is run again.
#[derive(Debug, Default)]
pub(super) struct Desk {
    pending: Mutex<Vec<Ending>>,
    held: Mutex<HashSet<i64>>,
    arrived: Notify,
}

impl Desk {
    /// Leaves an ending.
    pub(super) fn leave(&self, ending: Ending) {
        self.pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(ending);
        self.arrived.notify_one();
    }

    /// Takes at most `most` endings, oldest first.
    pub(super) fn collect(&self, most: usize) -> Vec<Ending> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.len() <= most {
            return std::mem::take(&mut pending);
        }
        let rest = pending.split_off(most);
        std::mem::replace(&mut pending, rest)
    }

    /// Waits until something was left since the last look.
    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// True if nothing waits to be stored.
    pub(super) fn is_empty(&self) -> bool {
        self.pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
    }

    /// Notes claimed rows.
    pub(super) fn hold(&self, ids: impl IntoIterator<Item = i64>) {
        self.held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(ids);
    }

    /// Forgets rows whose end is stored.
    pub(super) fn forget(&self, ids: impl IntoIterator<Item = i64>) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            held.remove(&id);
        }
    }

    /// The rows that this process holds.
    pub(super) fn held(&self) -> Vec<i64> {
        self.held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .copied()
            .collect()
    }
}
