//! Stops calling a Polar that is down, and finds out with one call at a time when it is back.
//!
//! Per process: a process that cannot reach Polar must not stop one that can. Pure: the moment is
//! always given.

use std::time::{Duration, Instant};

/// Failures in a row that open it (contract 8). One 500 is no proof (R3, R13).
const FAILURES: u32 = 5;

/// The breaker of one process.
#[derive(Debug)]
pub(super) struct Breaker {
    phase: Phase,
    first: Duration,
    longest: Duration,
}

#[derive(Debug)]
enum Phase {
    Closed { failures: u32 },
    Open { until: Instant, delay: Duration },
    Probing { delay: Duration },
}

/// What the breaker lets out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passage {
    /// Every call.
    Free,
    /// One call, the probe.
    Probe,
    /// Nothing until the probe under way is answered.
    Probing,
    /// Nothing for this long.
    Shut(Duration),
}

impl Breaker {
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        Self {
            phase: Phase::Closed { failures: 0 },
            first,
            longest,
        }
    }

    pub(super) fn passage(&self, now: Instant) -> Passage {
        match self.phase {
            Phase::Closed { .. } => Passage::Free,
            Phase::Probing { .. } => Passage::Probing,
            Phase::Open { until, .. } if now >= until => Passage::Probe,
            Phase::Open { until, .. } => Passage::Shut(until - now),
        }
    }

    /// Whether Polar counts as down.
    pub(super) fn is_open(&self) -> bool {
        !matches!(self.phase, Phase::Closed { .. })
    }

    /// A call goes out, as [`Breaker::passage`] allowed.
    pub(super) fn let_out(&mut self) {
        if let Phase::Open { delay, .. } = self.phase {
            self.phase = Phase::Probing { delay };
        }
    }

    /// Polar was down. `true` if this opened the breaker.
    pub(super) fn down(&mut self, now: Instant) -> bool {
        match self.phase {
            Phase::Closed { failures } if failures + 1 < FAILURES => {
                self.phase = Phase::Closed {
                    failures: failures + 1,
                };
                false
            }
            Phase::Closed { .. } => {
                self.open(now, self.first);
                true
            }
            Phase::Probing { delay } => {
                self.open(now, delay.saturating_mul(2).min(self.longest));
                false
            }
            // A call from before the opening, which says nothing new.
            Phase::Open { .. } => false,
        }
    }

    /// Polar answered. `true` if this closed the breaker. An answer to a call from before the
    /// opening is older than the failures that opened it, and closes nothing.
    pub(super) fn up(&mut self) -> bool {
        match self.phase {
            Phase::Open { .. } => false,
            Phase::Closed { .. } | Phase::Probing { .. } => {
                let closed = self.is_open();
                self.phase = Phase::Closed { failures: 0 };
                closed
            }
        }
    }

    /// A call ended without telling anything: if it was the probe, another may go at once.
    pub(super) fn abandoned(&mut self, now: Instant) {
        if let Phase::Probing { delay } = self.phase {
            self.phase = Phase::Open { until: now, delay };
        }
    }

    fn open(&mut self, now: Instant, delay: Duration) {
        self.phase = Phase::Open {
            until: now + delay,
            delay,
        };
    }
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;
