//! Whether Plain can be called at the moment: stops calling one that is down, and finds out with one
//! call at a time when it is back.
//!
//! A call that fails may fail for reasons of its own, so it proves nothing. Whoever finds Plain down
//! asks once more, for something that is about nobody; only if that fails too, Plain counts as down.
//! Later probes are of the same kind, so that no broken customer can keep the others waiting.
//!
//! Nothing here waits or sends; the moment is always given.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::HeldReason;

/// How long calls are held back.
#[derive(Clone, Copy, Debug)]
pub struct Delays {
    /// After the first probe in vain.
    pub first: Duration,
    /// Each further probe in vain doubles the delay up to this.
    pub longest: Duration,
    /// After the token was refused.
    pub token: Duration,
}

impl Delays {
    /// 5 s growing to 60 s; a refused token is tried again every 60 s.
    pub const PRODUCTION: Self = Self {
        first: Duration::from_secs(5),
        longest: Duration::from_secs(60),
        token: Duration::from_secs(60),
    };
}

/// What may happen now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// The call goes out.
    Call,
    /// First a probe; its answer decides.
    Probe,
    /// Nothing goes out for so long.
    Held(HeldReason, Duration),
}

/// What a process knows about Plain.
#[derive(Debug)]
pub(crate) struct Availability {
    delays: Delays,
    hold: Mutex<Option<Hold>>,
}

#[derive(Clone, Copy, Debug)]
struct Hold {
    reason: HeldReason,
    until: Instant,
    delay: Duration,
    /// Somebody was sent to probe and did not come back yet.
    probing: bool,
}

impl Availability {
    pub(crate) fn new(delays: Delays) -> Self {
        Self {
            delays,
            hold: Mutex::new(None),
        }
    }

    /// No code panics while it holds the lock, so a poisoned lock is still a sound state.
    fn lock(&self) -> MutexGuard<'_, Option<Hold>> {
        self.hold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a call may go out. Whoever is sent to probe has `probe_timeout` for it, in which nobody
    /// else is; so a probe that is dropped half-way needs no cleaning up.
    pub(crate) fn admit(&self, now: Instant, probe_timeout: Duration) -> Admission {
        let mut hold = self.lock();
        match hold.as_mut() {
            None => Admission::Call,
            Some(held) if now < held.until => Admission::Held(held.reason, held.until - now),
            Some(held) => {
                held.until = now + probe_timeout;
                held.probing = true;
                Admission::Probe
            }
        }
    }

    /// Why calls are held back and for how long, if they are.
    pub(crate) fn held(&self, now: Instant) -> Option<(HeldReason, Duration)> {
        let held = (*self.lock())?;
        Some((held.reason, held.until.saturating_duration_since(now)))
    }

    /// A probe was answered: calls go out again.
    pub(crate) fn answered(&self) {
        *self.lock() = None;
    }

    /// A probe found Plain down. Returns how long calls are held back.
    pub(crate) fn down(&self, now: Instant) -> Duration {
        let mut hold = self.lock();
        let delay = match *hold {
            // Another call found the same a moment ago.
            Some(held) if held.reason == HeldReason::Down && !held.probing && now < held.until => {
                return held.until - now;
            }
            Some(held) if held.reason == HeldReason::Down => {
                held.delay.saturating_mul(2).min(self.delays.longest)
            }
            _ => self.delays.first,
        };
        *hold = Some(Hold {
            reason: HeldReason::Down,
            until: now + delay,
            delay,
            probing: false,
        });
        delay
    }

    /// Plain asked to wait, or refuses the token. Returns how long calls are held back.
    pub(crate) fn hold(
        &self,
        reason: HeldReason,
        asked: Option<Duration>,
        now: Instant,
    ) -> Duration {
        let delay = asked.unwrap_or(self.delays.token);
        *self.lock() = Some(Hold {
            reason,
            until: now + delay,
            delay,
            probing: false,
        });
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROBE: Duration = Duration::from_secs(10);

    #[test]
    fn probes_in_vain_come_ever_later_up_to_a_minute_and_an_answer_ends_that() {
        let availability = Availability::new(Delays::PRODUCTION);
        let mut now = Instant::now();
        assert_eq!(availability.admit(now, PROBE), Admission::Call);
        let mut delays = Vec::new();
        for _probe in 0..6 {
            let delay = availability.down(now);
            delays.push(delay.as_secs());
            let held = Admission::Held(HeldReason::Down, delay);
            assert_eq!(availability.admit(now, PROBE), held);
            now += delay;
            assert_eq!(availability.admit(now, PROBE), Admission::Probe);
            assert!(
                matches!(availability.admit(now, PROBE), Admission::Held(..)),
                "one probe at a time"
            );
        }
        assert_eq!(delays, [5, 10, 20, 40, 60, 60]);
        availability.answered();
        assert_eq!(availability.admit(now, PROBE), Admission::Call);
    }

    #[test]
    fn a_probe_that_was_dropped_lets_another_one_out_after_its_time() {
        let availability = Availability::new(Delays::PRODUCTION);
        let now = Instant::now();
        let later = now + availability.down(now);
        assert_eq!(availability.admit(later, PROBE), Admission::Probe);
        assert_eq!(availability.admit(later + PROBE, PROBE), Admission::Probe);
    }

    #[test]
    fn several_calls_that_find_plain_down_at_once_count_as_one() {
        let availability = Availability::new(Delays::PRODUCTION);
        let now = Instant::now();
        for _call in 0..5 {
            assert_eq!(availability.down(now).as_secs(), 5);
        }
    }
}
