//! Where running jobs leave their endings and lanes collect them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::ending::Ending;
use crate::queue::claim::Claimed;

/// How long endings are gathered at most, and how long after the last one.
const GATHERING: Duration = Duration::from_millis(1);
const LULL: Duration = Duration::from_micros(30);

/// A claim that this process holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    attempt: i32,
    ordered: bool,
}

/// Endings that wait to be stored, and the ids that this process holds. In memory only: what is
/// lost with the process is run again.
#[derive(Debug, Default)]
pub(super) struct Desk {
    pending: Mutex<Vec<Ending>>,
    held: Mutex<HashMap<i64, Held>>,
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

    /// Waits while endings come thick and fast, until there are `enough`: one commit then stores more
    /// of them. Returns at once where nothing has ended.
    pub(super) async fn gather(&self, enough: usize) {
        let began = Instant::now();
        let (mut seen, mut last) = (0, began);
        loop {
            let waiting = self.waiting();
            if waiting > seen {
                (seen, last) = (waiting, Instant::now());
            }
            if waiting == 0
                || waiting >= enough
                || last.elapsed() > LULL
                || began.elapsed() > GATHERING
            {
                return;
            }
            tokio::task::yield_now().await;
        }
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
        self.waiting() == 0
    }

    /// How many endings wait to be stored.
    fn waiting(&self) -> usize {
        self.pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Notes claimed rows.
    pub(super) fn hold(&self, rows: &[Claimed]) {
        let held = |row: &Claimed| {
            let (attempt, ordered) = (row.attempt, row.ordered);
            (row.id, Held { attempt, ordered })
        };
        self.held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(rows.iter().map(held));
    }

    /// Forgets claims, by row and attempt, whose end is stored: the row may be claimed again here
    /// already. True if one of them had an ordering key, so that another job may be free to run now.
    pub(super) fn forget(&self, claims: impl IntoIterator<Item = (i64, i32)>) -> bool {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ordered = false;
        for (id, attempt) in claims {
            if held.get(&id).is_some_and(|claim| claim.attempt == attempt) {
                ordered |= held.remove(&id).is_some_and(|claim| claim.ordered);
            }
        }
        ordered
    }

    /// The rows that this process holds.
    pub(super) fn held(&self) -> Vec<i64> {
        self.held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .keys()
            .copied()
            .collect()
    }
}
