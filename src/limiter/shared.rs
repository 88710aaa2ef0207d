//! The state behind its lock, and the calls that go in and out.
//!
//! While a quota lasts, a call costs a lock and no question to the database.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use polar::{Admission, Answer, CallFacts, Rejected};
use tokio::sync::{Notify, oneshot};

use super::state::State;

/// What a waiting call is answered.
pub(super) type Decision = Result<Permit, Rejected>;

/// What the refill task and all calls of a process share.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State<Decision>>,
    /// Wakes the refill task.
    pub(super) changed: Notify,
}

/// What becomes of a call that wants to go out.
pub(super) enum Entry {
    /// It goes, or the probe before it.
    Goes(Admission),
    /// Not now.
    Rejected(Rejected),
    /// It waits for an answer.
    Waits(oneshot::Receiver<Decision>),
}

/// Leave to make one call, on its way to the call that waits for it. The call may be dropped
/// meanwhile; then nobody will ever record what came of it, so the permit does.
#[derive(Debug)]
pub(super) struct Permit {
    shared: Option<Arc<Shared>>,
    admission: Admission,
}

impl Permit {
    /// The call goes out, and will be recorded by whoever makes it.
    pub(super) fn take(mut self) -> Admission {
        self.shared = None;
        self.admission
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            shared.record(None, self.admission, Answer::Abandoned);
        }
    }
}

impl Shared {
    pub(super) fn new(state: State<Decision>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(state),
            changed: Notify::new(),
        })
    }

    /// The state. No code panics while it holds the lock half-way through a change, so a poisoned
    /// lock is still a sound state.
    pub(super) fn lock(&self) -> MutexGuard<'_, State<Decision>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn acquire(&self, call: CallFacts) -> Entry {
        let now = Instant::now();
        let mut state = self.lock();
        if let Some(rejected) = state.rejected(now) {
            return Entry::Rejected(rejected);
        }
        if let Err(rejected) = state.check_scope(call.scope, now) {
            return Entry::Rejected(rejected);
        }
        if state.waiting.is_empty()
            && let Some(admission) = state.admit(now)
        {
            return Entry::Goes(admission);
        }
        let answer = state.waiting.push(call.class);
        drop(state);
        self.changed.notify_one();
        Entry::Waits(answer)
    }

    pub(super) fn record(
        self: &Arc<Self>,
        scope: Option<&'static str>,
        admission: Admission,
        answer: Answer,
    ) {
        self.lock().record(scope, admission, answer, Instant::now());
        self.serve();
        self.changed.notify_one();
    }

    /// Tells those who wait: go while there is budget and room, or to come back later.
    pub(super) fn serve(self: &Arc<Self>) {
        let now = Instant::now();
        let mut undelivered = Vec::new();
        let mut state = self.lock();
        if let Some(rejected) = state.rejected(now) {
            while let Some(waiting) = state.waiting.pop() {
                // Fails for one who gave up, and needs no answer.
                let _ = waiting.send(Err(rejected));
            }
        }
        while !state.waiting.is_empty()
            && let Some(admission) = state.admit(now)
        {
            let permit = Permit {
                shared: Some(Arc::clone(self)),
                admission,
            };
            match state.waiting.pop() {
                Some(waiting) => undelivered.extend(waiting.send(Ok(permit)).err()),
                None => undelivered.push(Ok(permit)),
            }
        }
        state.show();
        drop(state);
        // Each takes the lock again to record that its call was abandoned.
        drop(undelivered);
    }
}
