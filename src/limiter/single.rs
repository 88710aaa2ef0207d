//! The limiter of a command that looks at Polar once. Its calls come out of the fleet's budget and wait as Polar
//! asked everybody to, but what they find changes nothing for the fleet: a wrong token in a person's shell must
//! not stop the workers, and a right one is tried although theirs is refused.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use polar::{Admission, Answer, BoxFuture, CallFacts, RateLimiter, Rejected, RejectedReason};
use sqlx::PgPool;
use tokio::time::{sleep, timeout};

use super::budget::Rate;
use super::fleet::{FleetStore, SingleCallGrant};
use super::settings::{Limits, Timing};

/// See the module.
#[derive(Debug)]
pub struct SingleCalls {
    store: FleetStore,
    timing: Timing,
    /// Calls granted ahead, and until when they may be used.
    granted: Mutex<(u32, Instant)>,
}

impl SingleCalls {
    /// Takes calls from the budget of the fleet whose row is in this database.
    #[must_use]
    pub fn new(pool: PgPool, limits: Limits) -> Self {
        let timing = Timing::PRODUCTION;
        Self {
            store: FleetStore::new(pool, Rate::new(limits.per_window, &timing), timing),
            timing,
            granted: Mutex::new((0, Instant::now())),
        }
    }

    fn take_granted(&self) -> bool {
        let mut granted = self.granted.lock().unwrap_or_else(PoisonError::into_inner);
        let usable = granted.0 > 0 && Instant::now() < granted.1;
        if usable {
            granted.0 -= 1;
        }
        usable
    }

    async fn admit(&self) -> Result<Admission, Rejected> {
        let gives_up_at = Instant::now() + self.timing.acquire_timeout;
        while !self.take_granted() {
            let rejected = match timeout(self.timing.query_timeout, self.store.take_one()).await {
                Ok(Ok(SingleCallGrant::Calls(calls, ends))) => {
                    *self.granted.lock().unwrap_or_else(PoisonError::into_inner) = (calls, ends);
                    continue;
                }
                Ok(Ok(SingleCallGrant::Later(rejected))) => rejected,
                Ok(Err(_)) | Err(_) => Rejected {
                    retry_after: self.timing.query_retry_delay,
                    reason: RejectedReason::BudgetUnknown,
                },
            };
            if Instant::now() + rejected.retry_after > gives_up_at {
                return Err(rejected);
            }
            sleep(rejected.retry_after.max(Duration::from_millis(10))).await;
        }
        Ok(Admission::Call)
    }
}

impl RateLimiter for SingleCalls {
    fn acquire(&self, _: CallFacts) -> BoxFuture<'_, Result<Admission, Rejected>> {
        Box::pin(self.admit())
    }

    fn record(&self, _: CallFacts, _: Admission, _: Answer) {}
}
