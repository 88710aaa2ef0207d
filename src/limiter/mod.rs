//! Decides when calls to Polar may go out.
//!
//! Polar counts calls per organization, whoever makes them, and a refused token is refused for
//! everybody; so budget, `Retry-After` and token are the whole fleet's, kept in one row and in the
//! database's time. The row gives out quotas: a process asks once for all calls that wait in it, and
//! uses what it gets within a second. Whether Polar is down, and which scopes the token lacks, each
//! process finds out for itself. At most so many calls are under way at once in each.
//!
//! A call that cannot go out soon is rejected with a time to ask again, and its job waits in the table
//! without using up an attempt. When the database fails there is no budget, and no call goes out.

mod breaker;
mod budget;
mod fleet;
mod metrics;
mod queue;
mod refill;
mod settings;
mod shared;
mod single;
mod state;
mod token;

use std::sync::Arc;
use std::time::Instant;

use polar::{Admission, Answer, BoxFuture, CallFacts, RateLimiter, Rejected};
use sqlx::PgPool;
use tokio::task::JoinHandle;

pub use fleet::{Status, status};
pub use settings::{Limits, Timing};
pub use single::SingleCalls;

use budget::Rate;
use fleet::FleetStore;
use refill::refill;
use shared::{Entry, Shared};
use state::State;

/// The rate limiter of one process of the fleet. One per process; clients share it.
#[derive(Debug)]
pub struct FleetRateLimiter {
    shared: Arc<Shared>,
    refill: JoinHandle<()>,
    timing: Timing,
    other_token: bool,
}

impl FleetRateLimiter {
    /// Limits the calls of this process and, together with all others, of the fleet. Must be called
    /// within a runtime; asks the database only when a call does.
    ///
    /// # Panics
    /// If `quota_lifetime` and `travel` of `timing` are together a ninth of its `window` or more, and
    /// outside a runtime.
    #[must_use]
    pub fn new(pool: PgPool, limits: Limits, timing: Timing) -> Self {
        let store = FleetStore::new(pool, Rate::new(limits.per_window, &timing), timing);
        Self::start(store, limits, timing, false)
    }

    /// The same for a command, whose token may be another than the fleet's: it takes part in the budget by the
    /// class of each call and waits as Polar asked everybody to, but whether Polar refuses its token, or a scope
    /// of it, is no matter of the fleet's, nor is the fleet's token one of the command's. Such an answer is for
    /// the caller alone.
    ///
    /// # Panics
    /// As [`FleetRateLimiter::new`].
    #[must_use]
    pub fn for_command(pool: PgPool, limits: Limits, timing: Timing) -> Self {
        let store = FleetStore::new(pool, Rate::new(limits.per_window, &timing), timing);
        Self::start(store.for_other_token(), limits, timing, true)
    }

    fn start(store: FleetStore, limits: Limits, timing: Timing, other_token: bool) -> Self {
        let shared = Shared::new(State::new(limits, timing, Instant::now()));
        let refill = refill(Arc::clone(&shared), store, timing.query_timeout);
        Self {
            shared,
            refill: tokio::spawn(refill),
            timing,
            other_token,
        }
    }

    /// Why no call of any class can go out at the moment, as far as this process knows.
    #[must_use]
    pub fn rejected(&self) -> Option<Rejected> {
        self.shared.lock().rejected(Instant::now())
    }

    async fn admit(&self, call: CallFacts) -> Result<Admission, Rejected> {
        let answer = match self.shared.acquire(call) {
            Entry::Goes(admission) => return Ok(admission),
            Entry::Rejected(rejected) => return Err(rejected),
            Entry::Waits(answer) => answer,
        };
        match tokio::time::timeout(self.timing.acquire_timeout, answer).await {
            Ok(Ok(Ok(permit))) => Ok(permit.take()),
            Ok(Ok(Err(rejected))) => Err(rejected),
            Ok(Err(_)) | Err(_) => Err(self.shared.lock().timed_out(Instant::now())),
        }
    }
}

impl RateLimiter for FleetRateLimiter {
    fn acquire(&self, call: CallFacts) -> BoxFuture<'_, Result<Admission, Rejected>> {
        Box::pin(async move {
            let admitted = self.admit(call).await;
            // Whoever is rejected is given a moment of its own, at the opening or after.
            let acquired = admitted.map_err(|rejected| {
                let mut state = self.shared.lock();
                state.stagger(call.class, rejected, Instant::now())
            });
            match acquired {
                Ok(admission) => metrics::admitted(call.class, admission),
                Err(rejected) => metrics::rejected(call.class, rejected.reason),
            }
            acquired
        })
    }

    fn record(&self, call: CallFacts, admission: Admission, answer: Answer) {
        metrics::answered(answer);
        let answer = match answer {
            // Polar is there and answers; more than that another token does not tell.
            Answer::Unauthorized | Answer::MissingScope if self.other_token => Answer::Answered,
            answer => answer,
        };
        self.shared.record(call.scope, admission, answer);
    }
}

impl Drop for FleetRateLimiter {
    fn drop(&mut self) {
        self.refill.abort();
    }
}
