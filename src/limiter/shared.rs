//! The state behind its lock: the calls that go in and out, and the task that talks to the fleet for
//! all of them.
//!
//! While a quota lasts, a call costs a lock and no question to the database; what is asked of the
//! fleet is asked once for everybody who waits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use polar::{Admission, Answer, CallFacts, Rejected};
use tokio::sync::{Notify, oneshot};

use super::budget::Demand;
use super::fleet::{FleetStore, TokenReport};
use super::metrics;
use super::state::{Action, Reports, State};

/// What a waiting call is told.
pub(super) type Told = Result<Permit, Rejected>;

/// What the refill task and all calls of a process share.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State<Told>>,
    /// Wakes the refill task.
    changed: Notify,
}

/// What becomes of a call that wants to go out.
pub(super) enum Entry {
    /// It goes, or the probe before it.
    Goes(Admission),
    /// Not now.
    Rejected(Rejected),
    /// It waits to be told.
    Waits(oneshot::Receiver<Told>),
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
    pub(super) fn new(state: State<Told>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(state),
            changed: Notify::new(),
        })
    }

    /// The state. No code panics while it holds the lock half-way through a change, so a poisoned
    /// lock is still a sound state.
    pub(super) fn lock(&self) -> MutexGuard<'_, State<Told>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enter(&self, call: CallFacts) -> Entry {
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
        let told = state.waiting.push(call.class);
        drop(state);
        self.changed.notify_one();
        Entry::Waits(told)
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

    /// Tells those who wait: leave to go while there is budget and place, or to come back later.
    fn serve(self: &Arc<Self>) {
        let now = Instant::now();
        let mut undelivered = Vec::new();
        let mut state = self.lock();
        if let Some(rejected) = state.rejected(now) {
            while let Some(waiting) = state.waiting.pop() {
                // Fails for one who gave up, and needs not be told.
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

/// The refill task: serves the calls that wait, for ever.
pub(super) async fn refill(shared: Arc<Shared>, store: FleetStore, query_timeout: Duration) {
    let mut failing = false;
    loop {
        let action = shared.lock().next_action(Instant::now());
        let asked = match action {
            Action::Report(reports) => {
                Some(in_time(query_timeout, report(&shared, &store, reports)).await)
            }
            Action::Lease(demand) => {
                Some(in_time(query_timeout, lease(&shared, &store, demand)).await)
            }
            Action::Sleep(until) => {
                sleep(&shared, until).await;
                None
            }
        };
        match asked {
            Some(Err(error)) => {
                if !failing {
                    tracing::error!(%error, "the call budget cannot be read; no call goes to Polar until it can");
                }
                failing = true;
                shared.lock().database_failed(Instant::now());
            }
            Some(Ok(())) => {
                if failing {
                    tracing::info!("the call budget can be read again");
                }
                failing = false;
            }
            None => {}
        }
        shared.serve();
    }
}

async fn lease(shared: &Shared, store: &FleetStore, demand: Demand) -> Result<(), sqlx::Error> {
    let (lease, ends) = store.lease(demand).await?;
    metrics::budget_left(lease.calls_left);
    shared.lock().leased(lease, ends, Instant::now());
    Ok(())
}

async fn report(shared: &Shared, store: &FleetStore, reports: Reports) -> Result<(), sqlx::Error> {
    let from_now = |until: Instant| until.saturating_duration_since(Instant::now());
    if let Some(until) = reports.wait_until {
        store.wait(from_now(until)).await?;
    }
    match reports.token {
        Some(TokenReport::Refused) if store.refuse().await? => {
            tracing::error!(
                "Polar refuses the access token: all outward work is paused and tried once a minute; check POLAR_ACCESS_TOKEN"
            );
        }
        Some(TokenReport::Accepted) if store.resume().await? => {
            tracing::info!("Polar takes the access token again: outward work resumes");
        }
        _ => {}
    }
    if let Some(until) = reports.breaker {
        store.breaker(until.map(from_now)).await?;
    }
    shared.lock().reported(reports);
    Ok(())
}

async fn in_time(
    limit: Duration,
    question: impl Future<Output = Result<(), sqlx::Error>>,
) -> Result<(), sqlx::Error> {
    tokio::time::timeout(limit, question)
        .await
        .unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

async fn sleep(shared: &Shared, until: Option<Instant>) {
    match until {
        Some(until) => {
            // Either is a reason to look again.
            let _ = tokio::time::timeout_at(until.into(), shared.changed.notified()).await;
        }
        None => shared.changed.notified().await,
    }
}
