//! Results that are stored together, and what of them is put aside where somebody else's transaction is in the way.

use std::collections::HashSet;

use crate::queue::finish::{Completion, Discard, Return};

use super::result::BufferedResult;

/// Results that one commit may store, sorted by what must be done.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) completions: Vec<Completion>,
    pub(super) returns: Vec<Return>,
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
                BufferedResult::Return(entry) => batch.returns.push(entry),
                BufferedResult::Discard(entry) => batch.discards.push(entry),
            }
        }
        batch
    }

    pub(super) fn len(&self) -> usize {
        self.completions.len() + self.returns.len() + self.discards.len()
    }

    /// The claims whose ends these are.
    pub(super) fn claims(&self) -> impl Iterator<Item = (i64, i32)> {
        let completions = self.completions.iter().map(|done| (done.id, done.attempt));
        let returns = self.returns.iter().map(|back| (back.id, back.attempt));
        let discards = self.discards.iter().map(|gone| (gone.id, gone.attempt));
        completions.chain(returns).chain(discards)
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
        let returns = self.returns.extract_if(.., |back| is_contended(back.id));
        self.contended.extend(returns.map(BufferedResult::Return));
    }

    /// Puts the second half aside; a single one as a whole.
    pub(super) fn halve(&mut self) {
        let ids: Vec<i64> = self.claims().map(|(id, _)| id).collect();
        let aside: HashSet<i64> = ids[ids.len() / 2..].iter().copied().collect();
        self.put_aside(|id| aside.contains(&id));
    }
}
