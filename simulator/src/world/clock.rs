//! Renewals, period ends and retries must be reached without waiting. The simulated clock is the time Polar believes
//! in; it runs like the machine's (or stands still) and can be moved forward.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

/// The simulated clock and the monotonic line that delivery retries and rate limits follow; both are moved by `advance`.
#[derive(Debug)]
pub(crate) struct Clock {
    frozen: Option<DateTime<Utc>>,
    started: Instant,
    advanced: Duration,
}

impl Clock {
    /// A clock that stands at `frozen`, or follows the machine's.
    pub(crate) fn new(frozen: Option<DateTime<Utc>>) -> Self {
        Self {
            frozen,
            started: Instant::now(),
            advanced: Duration::ZERO,
        }
    }

    /// The simulated time.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        let moved = TimeDelta::from_std(self.advanced).unwrap_or(TimeDelta::MAX);
        self.frozen.unwrap_or_else(Utc::now) + moved
    }

    /// Time since the start: real time passed, plus what was skipped.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed() + self.advanced
    }

    /// Moves the clock forward.
    pub(crate) fn advance(&mut self, by: Duration) {
        self.advanced += by;
    }
}

/// How Polar writes a moment: UTC with microseconds.
pub(crate) fn text(moment: DateTime<Utc>) -> String {
    moment.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}
