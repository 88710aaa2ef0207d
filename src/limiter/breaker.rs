//! Stops calling a Polar that is down, and finds out with one call at a time when it is back.
//!
//! Failures in a row are only a suspicion: they may all be about one broken customer, or two, while
//! Polar serves everybody else. What keeps to one subject is never suspicious; the job that fails
//! uses up its own budget. Failures about several subjects are put to the test by a probe, a harmless
//! call that is about nobody: only if that fails too the breaker opens. Later probes are of the same
//! kind, so that no broken customer can keep the breaker open.
//!
//! Per process: a process that cannot reach Polar must not stop one that can. Pure: the moment is
//! always given.

use std::time::{Duration, Instant};

use polar::Subject;

/// Failures in a row that are put to the test. One 500 is no proof: Polar's own races give some.
const FAILURES: u32 = 5;

/// The breaker of one process.
#[derive(Debug)]
pub(super) struct Breaker {
    phase: Phase,
    first_delay: Duration,
    longest_delay: Duration,
}

#[derive(Debug)]
enum Phase {
    Closed(Streak),
    /// Too many failures: the next call is preceded by a probe.
    Suspicious,
    Open {
        until: Instant,
        delay: Duration,
    },
    Probing {
        /// How long nothing had gone out before this probe; `None` for the probe of a suspicion.
        delay: Option<Duration>,
    },
}

/// Failures in a row, without a success in between.
#[derive(Debug, Default)]
struct Streak {
    failures: u32,
    /// Whom the first one was about.
    first: Option<Subject>,
    /// Whether they are about more than one subject.
    several: bool,
}

impl Streak {
    /// One more. A failure about nobody in particular is about somebody else than all others.
    fn add(&mut self, subject: Option<Subject>) {
        if self.failures == 0 {
            self.first = subject;
        } else if subject.is_none() || subject != self.first {
            self.several = true;
        }
        self.failures = self.failures.saturating_add(1);
    }

    fn is_suspicious(&self) -> bool {
        self.several && self.failures >= FAILURES
    }
}

/// What the breaker lets out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passage {
    /// Every call.
    Free,
    /// One probe.
    Probe,
    /// Nothing until the probe under way is answered.
    Probing,
    /// Nothing for this long.
    Shut(Duration),
}

/// What a failure, or the answer of a probe, changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    None,
    /// Polar counts as down; it is probed again after this.
    Opened(Duration),
    /// Polar counts as up again.
    Closed,
}

impl Breaker {
    pub(super) fn new(first_delay: Duration, longest_delay: Duration) -> Self {
        Self {
            phase: Phase::Closed(Streak::default()),
            first_delay,
            longest_delay,
        }
    }

    pub(super) fn passage(&self, now: Instant) -> Passage {
        match self.phase {
            Phase::Closed(_) => Passage::Free,
            Phase::Suspicious => Passage::Probe,
            Phase::Probing { .. } => Passage::Probing,
            Phase::Open { until, .. } if now >= until => Passage::Probe,
            Phase::Open { until, .. } => Passage::Shut(until - now),
        }
    }

    /// Whether Polar counts as down.
    pub(super) fn is_open(&self) -> bool {
        matches!(
            self.phase,
            Phase::Open { .. } | Phase::Probing { delay: Some(_) }
        )
    }

    /// A probe goes out, as [`Breaker::passage`] allowed.
    pub(super) fn probe_sent(&mut self) {
        match self.phase {
            Phase::Open { delay, .. } => self.phase = Phase::Probing { delay: Some(delay) },
            Phase::Suspicious => self.phase = Phase::Probing { delay: None },
            Phase::Closed(_) | Phase::Probing { .. } => {}
        }
    }

    /// A call found Polar down. While the breaker is not closed that is a call from before, which says
    /// nothing new.
    pub(super) fn failed(&mut self, subject: Option<Subject>) {
        if let Phase::Closed(streak) = &mut self.phase {
            streak.add(subject);
            if streak.is_suspicious() {
                self.phase = Phase::Suspicious;
            }
        }
    }

    /// Polar answered a call. While the breaker is not closed that is a call from before, whose
    /// answer may be older than the failures.
    pub(super) fn succeeded(&mut self) {
        if let Phase::Closed(streak) = &mut self.phase {
            *streak = Streak::default();
        }
    }

    /// Polar answered a probe.
    pub(super) fn probe_succeeded(&mut self) -> Change {
        let was_open = self.is_open();
        match self.phase {
            Phase::Probing { .. } | Phase::Closed(_) => {
                self.phase = Phase::Closed(Streak::default());
            }
            Phase::Suspicious | Phase::Open { .. } => return Change::None,
        }
        if was_open {
            Change::Closed
        } else {
            Change::None
        }
    }

    /// A probe found Polar down.
    pub(super) fn probe_failed(&mut self, now: Instant) -> Change {
        let delay = match self.phase {
            Phase::Probing { delay: None } => self.first_delay,
            Phase::Probing { delay: Some(last) } => last.saturating_mul(2).min(self.longest_delay),
            _ => {
                self.failed(None);
                return Change::None;
            }
        };
        let until = now + delay;
        self.phase = Phase::Open { until, delay };
        Change::Opened(delay)
    }

    /// A probe ended without telling anything: another may go at once.
    pub(super) fn probe_abandoned(&mut self, now: Instant) {
        match self.phase {
            Phase::Probing { delay: None } => self.phase = Phase::Suspicious,
            Phase::Probing { delay: Some(delay) } => {
                self.phase = Phase::Open { until: now, delay };
            }
            _ => {}
        }
    }
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;
