//! Calls that wait for budget: the most urgent class first, within a class in the order they came.

use std::collections::VecDeque;

use polar::{CallClass, Held};
use tokio::sync::oneshot;

use super::budget::{Demand, urgency};
use super::permit::Permit;

/// What a waiting call is told.
pub(super) type Word = Result<Permit, Held>;

/// Calls that wait, by class.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    lines: [VecDeque<oneshot::Sender<Word>>; 5],
}

impl Waiting {
    /// Joins the line of a class.
    pub(super) fn join(&mut self, class: CallClass) -> oneshot::Receiver<Word> {
        let (sender, receiver) = oneshot::channel();
        self.lines[urgency(class)].push_back(sender);
        receiver
    }

    /// The next one to go, skipping those who gave up.
    pub(super) fn next(&mut self) -> Option<oneshot::Sender<Word>> {
        let mut all = self
            .lines
            .iter_mut()
            .flat_map(|line| std::iter::from_fn(|| line.pop_front()));
        all.find(|sender| !sender.is_closed())
    }

    /// Sends everybody away.
    pub(super) fn hold_all(&mut self, held: Held) {
        for sender in self.lines.iter_mut().flat_map(|line| line.drain(..)) {
            // Fails for those who gave up, who need no word.
            let _ = sender.send(Err(held));
        }
    }

    /// Those who still wait, by urgency; the others are forgotten.
    pub(super) fn demand(&mut self) -> Demand {
        self.lines.each_mut().map(|line| {
            line.retain(|sender| !sender.is_closed());
            u32::try_from(line.len()).unwrap_or(u32::MAX)
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.iter().all(VecDeque::is_empty)
    }

    pub(super) fn len(&self) -> usize {
        self.lines.iter().map(VecDeque::len).sum()
    }
}
