//! What stands between every job and Polar.
//!
//! Polar counts calls per organization, whoever makes them (polar-domain (i), R29), and a refused
//! token is refused for everybody; so budget, `Retry-After` and token are the whole fleet's, kept in
//! one row and in the database's time. The row gives out portions: a process asks once for all calls
//! that wait in it, and uses what it gets within a second. Whether Polar is down, each process finds
//! out for itself.
//!
//! A call that cannot go out soon is held back with a time to ask again, and its job waits in the
//! table without using up an attempt (contract 6.4). When the database fails there is no budget, and
//! no call goes out.

mod agenda;
mod authorization;
mod breaker;
mod budget;
mod fleet;
mod ledger;
mod meters;
mod permit;
mod pump;
mod shared;
mod state;
mod timing;
mod turns;
mod waiting;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Instant;

use polar::{Answer, BoxFuture, CallClass, Gate, Held};
use sqlx::PgPool;
use tokio::task::JoinHandle;

pub use ledger::{Status, status};
pub use timing::Timing;

use budget::Rate;
use ledger::Ledger;
use shared::{Entry, Shared};
use state::State;

/// The gate of one process of the fleet. One per process; clients share it.
#[derive(Debug)]
pub struct FleetGate {
    shared: Arc<Shared>,
    pump: JoinHandle<()>,
    patience: std::time::Duration,
}

impl FleetGate {
    /// Opens the gate for at most `limit` calls of the whole fleet in any window of
    /// [`Timing::window`]. Must be called within a runtime; asks the database only when a call does.
    ///
    /// # Panics
    /// If `portion` and `travel` of `timing` are together a ninth of its `window` or more, and
    /// outside a runtime.
    #[must_use]
    pub fn open(pool: PgPool, limit: NonZeroU32, timing: Timing) -> Self {
        let rate = Rate::new(limit, &timing);
        let shared = Shared::new(State::new(rate, timing, Instant::now()));
        let pump = pump::run(
            Arc::clone(&shared),
            Ledger::new(pool, rate, timing),
            timing.database,
        );
        Self {
            shared,
            pump: tokio::spawn(pump),
            patience: timing.patience,
        }
    }

    /// Why no call of any class can go out at the moment, as far as this process knows. A worker
    /// that asks before it claims need not claim jobs only to put them back.
    #[must_use]
    pub fn held(&self) -> Option<Held> {
        self.shared.lock().held(Instant::now())
    }

    /// Whoever is held back is told a turn of its own, at the opening or after.
    async fn pass(&self, class: CallClass) -> Result<(), Held> {
        let passed = self.ask(class).await;
        passed.map_err(|held| self.shared.lock().turn(class, held, Instant::now()))
    }

    async fn ask(&self, class: CallClass) -> Result<(), Held> {
        let word = match self.shared.enter(class) {
            Entry::Goes => return Ok(()),
            Entry::Held(held) => return Err(held),
            Entry::Waits(word) => word,
        };
        match tokio::time::timeout(self.patience, word).await {
            Ok(Ok(Ok(permit))) => {
                permit.taken();
                Ok(())
            }
            Ok(Ok(Err(held))) => Err(held),
            Ok(Err(_)) | Err(_) => Err(self.shared.lock().waited_in_vain(Instant::now())),
        }
    }
}

impl Gate for FleetGate {
    fn enter(&self, class: CallClass) -> BoxFuture<'_, Result<(), Held>> {
        Box::pin(async move {
            let passed = self.pass(class).await;
            match passed {
                Ok(()) => meters::went(class),
                Err(held) => meters::held(class, held.reason),
            }
            passed
        })
    }

    fn left(&self, answer: Answer) {
        meters::came(answer);
        self.shared.left(answer);
    }
}

impl Drop for FleetGate {
    fn drop(&mut self) {
        self.pump.abort();
    }
}
