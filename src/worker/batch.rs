//! Results that are stored together, and what of them is put aside where somebody else's transaction is in the way.

use std::collections::HashSet;

use crate::queue::finish::{Completion, Discard, Requeue};

use super::result::BufferedResult;

/// Results that one commit may store, sorted by what must be done.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) completions: Vec<Completion>,
    pub(super) requeues: Vec<Requeue>,
    pub(super) discards: Vec<Discard>,
    /// What cannot be stored now.
    pub(super) contended: Vec<BufferedResult>,
}

impl Batch {
    pub(super) fn of(results: Vec<BufferedResult>) -> Self {
        let mut batch = Self::default();
        for result in results {
            match result {
                BufferedResult::Complete(completion) => batch.completions.push(completion),
                BufferedResult::Requeue(entry) => batch.requeues.push(entry),
                BufferedResult::Discard(entry) => batch.discards.push(entry),
            }
        }
        batch
    }

    pub(super) fn len(&self) -> usize {
        self.completions.len() + self.requeues.len() + self.discards.len()
    }

    /// The claims whose ends these are.
    pub(super) fn claims(&self) -> impl Iterator<Item = (i64, i32)> {
        let completions = self.completions.iter().map(|done| (done.id, done.attempt));
        let requeues = self
            .requeues
            .iter()
            .map(|requeue| (requeue.id, requeue.attempt));
        let discards = self.discards.iter().map(|gone| (gone.id, gone.attempt));
        completions.chain(requeues).chain(discards)
    }

    /// Puts aside what `is_contended`.
    pub(super) fn put_aside(&mut self, is_contended: impl Fn(i64) -> bool) {
        let completions = self
            .completions
            .extract_if(.., |done| is_contended(done.id));
        self.contended
            .extend(completions.map(BufferedResult::Complete));
        let discards = self.discards.extract_if(.., |gone| is_contended(gone.id));
        self.contended.extend(discards.map(BufferedResult::Discard));
        let requeues = self
            .requeues
            .extract_if(.., |requeue| is_contended(requeue.id));
        self.contended.extend(requeues.map(BufferedResult::Requeue));
    }

    /// Puts the second half aside; a single one as a whole.
    pub(super) fn halve(&mut self) {
        let ids: Vec<i64> = self.claims().map(|(id, _)| id).collect();
        let aside: HashSet<i64> = ids[ids.len() / 2..].iter().copied().collect();
        self.put_aside(|id| aside.contains(&id));
    }
}
