//! What is known of a service that is down: the mail server, the application. Without it a thousand waiting jobs
//! would each run into the same timeout; with it one of them tries, and the others wait without a failure counted.
//!
//! Nothing here waits or sends; the time is passed in.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::RngExt as _;

use crate::contract::Error;

/// How long the service is left alone after the first failure, and at most; each probe that fails doubles it.
const FIRST_DELAY: Duration = Duration::from_secs(5);
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// For how long one that tries keeps the others waiting; longer than a try may take.
const PROBE: Duration = Duration::from_secs(20);

/// How a caller was let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Normal,
    /// To find out whether the outage is over.
    Probe,
}

/// The service is not asked now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// When to ask again.
    pub(crate) retry_after: Duration,
    /// Why.
    pub(crate) reason: String,
}

impl From<Held> for Error {
    fn from(held: Held) -> Self {
        Self::Unavailable {
            reason: held.reason,
            after: held.retry_after,
        }
    }
}

/// The outage, while there is one.
#[derive(Debug, Default)]
pub(crate) struct Outage(Mutex<Option<Since>>);

#[derive(Debug)]
struct Since {
    reason: String,
    delay: Duration,
    next_probe: Instant,
}

impl Outage {
    /// Whether the caller may ask; else how long to wait, and why. The waits are spread, so that not everybody comes
    /// back at the same moment. A probe may get lost: another one is let through after its time.
    pub(crate) fn admit(&self, now: Instant) -> Result<Admission, Held> {
        let mut state = self.lock();
        let Some(since) = state.as_mut() else {
            return Ok(Admission::Normal);
        };
        if now < since.next_probe {
            let spread = since.delay.mul_f64(rand::rng().random_range(0.0..1.0));
            return Err(Held {
                retry_after: since.next_probe - now + spread,
                reason: since.reason.clone(),
            });
        }
        since.next_probe = now + PROBE;
        Ok(Admission::Probe)
    }

    /// What was asked failed for this reason. Of several that fail together the first begins the outage; the others
    /// were under way and change nothing. Only a failed probe makes the delay grow.
    pub(crate) fn begin(&self, reason: &str, admission: Admission, now: Instant) -> Held {
        let mut state = self.lock();
        let delay = match (&*state, admission) {
            (None, _) => FIRST_DELAY,
            (Some(since), Admission::Probe) => (since.delay * 2).min(LONGEST_DELAY),
            (Some(since), Admission::Normal) => {
                return Held {
                    retry_after: since.next_probe.saturating_duration_since(now),
                    reason: reason.to_owned(),
                };
            }
        };
        *state = Some(Since {
            reason: reason.to_owned(),
            delay,
            next_probe: now + delay,
        });
        Held {
            retry_after: delay,
            reason: reason.to_owned(),
        }
    }

    /// There was an answer.
    pub(crate) fn end(&self) {
        *self.lock() = None;
    }

    /// Whether only probes are let through at the moment.
    pub(crate) fn is_known(&self) -> bool {
        self.lock().is_some()
    }

    /// No code panics while it holds the lock, so a poisoned lock is still a sound state.
    fn lock(&self) -> MutexGuard<'_, Option<Since>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn outage() -> (Outage, Instant) {
        (Outage::default(), Instant::now())
    }

    #[test]
    fn after_a_failure_one_tries_and_the_others_wait_longer_each_time() {
        let (outage, mut now) = outage();
        let mut admission = outage.admit(now).unwrap();
        assert_eq!(admission, Admission::Normal);
        for seconds in [5, 10, 20, 40, 60, 60] {
            let delay = Duration::from_secs(seconds);
            assert_eq!(outage.begin("down", admission, now).retry_after, delay);
            let held = outage.admit(now).unwrap_err();
            assert_eq!(held.reason, "down");
            assert!(held.retry_after >= delay && held.retry_after < delay * 2);
            now += delay;
            admission = outage.admit(now).unwrap();
            assert_eq!(admission, Admission::Probe);
            assert!(outage.admit(now).is_err(), "another tries already");
        }
        outage.end();
        assert_eq!(outage.admit(now), Ok(Admission::Normal));
        assert_eq!(outage.admit(now), Ok(Admission::Normal));
        let again = outage.begin("down", Admission::Normal, now);
        assert_eq!(again.retry_after.as_secs(), 5);
    }

    #[test]
    fn several_that_fail_together_count_as_one() {
        let (outage, now) = outage();
        for _slot in 0..8 {
            let held = outage.begin("down", Admission::Normal, now);
            assert_eq!(held.retry_after.as_secs(), 5);
        }
        let later = now + Duration::from_secs(5);
        assert_eq!(outage.admit(later), Ok(Admission::Probe));
        // One that began before the outage fails while another tries.
        outage.begin("late", Admission::Normal, later);
        assert!(outage.admit(later).is_err());
        let held = outage.begin("down", Admission::Probe, later);
        assert_eq!(held.retry_after.as_secs(), 10);
    }

    #[test]
    fn a_probe_that_never_ends_is_followed_by_another() {
        let (outage, now) = outage();
        outage.begin("down", Admission::Normal, now);
        let later = now + Duration::from_secs(5);
        assert_eq!(outage.admit(later), Ok(Admission::Probe));
        let later = later + PROBE;
        assert_eq!(outage.admit(later), Ok(Admission::Probe));
    }
}
