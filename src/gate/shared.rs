//! The state behind its lock, and the calls that go in and out.
//!
//! While a portion lasts, a call costs a lock and no question to the database.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use polar::{Answer, CallClass, Held};
use tokio::sync::{Notify, oneshot};

use super::meters;
use super::permit::Permit;
use super::state::State;
use super::waiting::Word;

/// What the pump and all calls of a process share.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Wakes the pump.
    pub(super) changed: Notify,
}

/// What becomes of a call that wants to go out.
pub(super) enum Entry {
    /// It goes.
    Goes,
    /// It is held back.
    Held(Held),
    /// It waits for word.
    Waits(oneshot::Receiver<Word>),
}

impl Shared {
    pub(super) fn new(state: State) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(state),
            changed: Notify::new(),
        })
    }

    /// The state. No code panics while it holds the lock half-way through a change, so a poisoned
    /// lock is still a sound state.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enter(&self, class: CallClass) -> Entry {
        let now = Instant::now();
        let mut state = self.lock();
        if let Some(held) = state.held(now) {
            return Entry::Held(held);
        }
        if state.waiting.is_empty() && state.let_out(now) {
            return Entry::Goes;
        }
        let word = state.waiting.join(class);
        drop(state);
        self.changed.notify_one();
        Entry::Waits(word)
    }

    pub(super) fn left(self: &Arc<Self>, answer: Answer) {
        self.lock().left(answer, Instant::now());
        self.serve();
        self.changed.notify_one();
    }

    /// Gives word to those who wait: leave to go while there is budget, or to come back later.
    pub(super) fn serve(self: &Arc<Self>) {
        let now = Instant::now();
        let mut unclaimed = Vec::new();
        let mut state = self.lock();
        if let Some(held) = state.held(now) {
            state.waiting.hold_all(held);
        }
        while !state.waiting.is_empty() && state.let_out(now) {
            let permit = Permit::new(self);
            match state.waiting.next() {
                Some(waiting) => unclaimed.extend(waiting.send(Ok(permit)).err()),
                None => unclaimed.push(Ok(permit)),
            }
        }
        meters::state(&state);
        drop(state);
        // Each takes the lock again to say that its call was abandoned.
        drop(unclaimed);
    }
}
