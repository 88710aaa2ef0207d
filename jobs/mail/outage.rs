//! What is known of a mail server that does not answer. Without it a thousand waiting mails would each wait for
//! the same timeout; with it one of them tries, and the others wait without having failed.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::RngExt as _;
use tokio::time::Instant;

use super::mailer::Unavailable;

/// The first delay after a failure, and the longest.
const FIRST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(60);
/// How long the one that tries keeps the others waiting; longer than any of its timeouts.
const PROBE: Duration = Duration::from_secs(20);

/// `None` while the server answers.
#[derive(Default)]
pub(super) struct Outage(Mutex<Option<Since>>);

struct Since {
    reason: String,
    delay: Duration,
    next_probe: Instant,
}

impl Outage {
    /// Whether the caller may ask the server; else how long to wait, and why. Spread, so that those who wait do
    /// not come back at the same moment.
    pub(super) fn admit(&self) -> Result<(), Unavailable> {
        let mut state = self.lock();
        let Some(since) = state.as_mut() else {
            return Ok(());
        };
        let now = Instant::now();
        if now < since.next_probe {
            let spread = since.delay.mul_f64(rand::rng().random_range(0.0..1.0));
            return Err(Unavailable {
                retry_after: since.next_probe - now + spread,
                reason: since.reason.clone(),
            });
        }
        since.next_probe = now + PROBE;
        Ok(())
    }

    /// The server failed for this reason. Returns how long to wait.
    pub(super) fn begin(&self, reason: &str) -> Duration {
        let mut state = self.lock();
        let delay = state
            .as_ref()
            .map_or(FIRST, |since| (since.delay * 2).min(LONGEST));
        *state = Some(Since {
            reason: reason.to_owned(),
            delay,
            next_probe: Instant::now() + delay,
        });
        delay
    }

    /// The server answered.
    pub(super) fn end(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Since>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn after_a_failure_one_tries_and_the_others_wait_longer_each_time() {
        let outage = Outage::default();
        assert!(outage.admit().is_ok());
        for seconds in [5, 10, 20, 40, 60, 60] {
            assert_eq!(outage.begin("down"), Duration::from_secs(seconds));
            assert_eq!(outage.admit().unwrap_err().reason, "down");
            tokio::time::advance(Duration::from_secs(seconds)).await;
            assert!(outage.admit().is_ok());
            assert!(outage.admit().is_err(), "another tries already");
        }
        outage.end();
        assert!(outage.admit().is_ok() && outage.admit().is_ok());
        assert_eq!(outage.begin("down"), FIRST);
    }
}
