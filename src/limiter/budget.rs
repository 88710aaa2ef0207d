//! The arithmetic of the budget, without clock or database.
//!
//! A bucket of `burst` calls refills at `per_second`. A quota taken from it may be used up to
//! `quota_lifetime` later, and its calls reach Polar up to `travel` later still; so the calls that
//! Polar counts in a window were granted in a time longer than the window by both (`delay`). Hence
//!
//! - `burst + per_second * (window + delay) <= limit`: never more than the limit in any window, and
//! - `burst + per_second * delay <= limit / 10`: bursts of at most a tenth of it.
//!
//! Nine tenths of the limit as the steady rate make both an equality.

use std::num::NonZeroU32;

use chrono::{DateTime, Duration, Utc};
use polar::CallClass;

use super::settings::Timing;

/// The classes, most urgent first, with the share of the burst that each leaves to those above.
const CLASSES: [(CallClass, f64); 5] = [
    (CallClass::Probe, 0.0),
    (CallClass::Entitlement, 0.0),
    (CallClass::Mail, 0.2),
    (CallClass::Metering, 0.4),
    (CallClass::Bulk, 0.6),
];

/// The position of a class among [`CLASSES`].
pub(super) fn urgency(class: CallClass) -> usize {
    match class {
        CallClass::Probe => 0,
        CallClass::Entitlement => 1,
        CallClass::Mail => 2,
        CallClass::Metering => 3,
        CallClass::Bulk => 4,
    }
}

/// Calls that wait, by urgency.
pub(super) type Demand = [u32; CLASSES.len()];
/// One call of the most urgent class.
pub(super) const ONE_URGENT_CALL: Demand = [1, 0, 0, 0, 0];

/// How fast the fleet may call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// Calls per second that flow into the bucket.
    per_second: f64,
    /// Calls that the bucket holds; at least one, or nothing would ever go out.
    burst: f64,
    /// Calls taken ahead of demand while there is plenty, so that not each asks the database.
    ahead: u32,
    window: Duration,
}

/// What is left of the budget.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bucket {
    pub(super) calls_left: f64,
    pub(super) counted_at: DateTime<Utc>,
}

/// What was taken from a bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Taken {
    pub(super) bucket: Bucket,
    pub(super) calls: u32,
    /// When the most urgent unmet demand can be met; zero if all is met.
    pub(super) more_in: std::time::Duration,
}

impl Rate {
    /// The rate that keeps `limit` calls in any window.
    ///
    /// # Panics
    /// If `quota_lifetime` and `travel` leave nothing of the burst: the promise could not be kept.
    pub(super) fn new(limit: NonZeroU32, timing: &Timing) -> Self {
        let limit = f64::from(limit.get());
        let per_second = 0.9 * limit / timing.window.as_secs_f64();
        let delay = (timing.quota_lifetime + timing.travel).as_secs_f64();
        assert!(
            delay * 9.0 < timing.window.as_secs_f64(),
            "quota_lifetime and travel together must be less than a ninth of the window"
        );
        Self {
            per_second,
            burst: (limit / 10.0 - per_second * delay).max(1.0),
            ahead: whole(per_second * timing.quota_lifetime.as_secs_f64()),
            window: Duration::from_std(timing.window).unwrap_or(Duration::MAX),
        }
    }

    /// How long `calls` calls take at this rate.
    pub(super) fn time_for(&self, calls: usize) -> std::time::Duration {
        let calls = u32::try_from(calls).unwrap_or(u32::MAX);
        std::time::Duration::try_from_secs_f64(f64::from(calls) / self.per_second)
            .unwrap_or(std::time::Duration::MAX)
    }

    /// Takes what `demand` may have at `now`, the most urgent first, and a little ahead where the
    /// level is above every reserve.
    pub(super) fn take(&self, bucket: Bucket, now: DateTime<Utc>, demand: Demand) -> Taken {
        let Bucket {
            calls_left: mut level,
            counted_at,
        } = self.refilled(bucket, now);
        let mut calls = 0;
        let mut missing = None;
        for ((_, share), wanted) in CLASSES.iter().zip(demand) {
            let reserve = self.reserve(*share);
            let given = wanted.min(whole(level - reserve));
            level -= f64::from(given);
            calls += given;
            if given < wanted {
                missing = missing.or(Some(reserve + 1.0 - level));
            }
        }
        if calls > 0 && missing.is_none() {
            let lowest = CLASSES
                .iter()
                .map(|(_, share)| self.reserve(*share))
                .fold(0.0, f64::max);
            let given = self.ahead.saturating_sub(calls).min(whole(level - lowest));
            level -= f64::from(given);
            calls += given;
        }
        let more_in = missing.map_or(0.0, |missing| (missing / self.per_second).max(0.0));
        Taken {
            bucket: Bucket {
                calls_left: level,
                counted_at,
            },
            calls,
            more_in: std::time::Duration::from_secs_f64(more_in),
        }
    }

    /// Taken before use and never given back: a call that Polar never saw is only a call less.
    fn refilled(&self, bucket: Bucket, now: DateTime<Utc>) -> Bucket {
        let elapsed = now - bucket.counted_at;
        if elapsed < -self.window {
            // The database's clock was set back; begin empty rather than stand still until then.
            return Bucket {
                calls_left: 0.0,
                counted_at: now,
            };
        }
        let seconds = elapsed.as_seconds_f64().max(0.0);
        Bucket {
            calls_left: (bucket.calls_left.max(0.0) + seconds * self.per_second).min(self.burst),
            counted_at: bucket.counted_at.max(now),
        }
    }

    /// Never so much that a full bucket would not give every class a call.
    fn reserve(&self, share: f64) -> f64 {
        (self.burst - 1.0) * share
    }
}

/// Whole calls in a level.
fn whole(level: f64) -> u32 {
    // Saturating by definition of `as`: nothing below zero, and never above what was wanted.
    level.floor() as u32
}

#[cfg(test)]
#[path = "budget_tests.rs"]
mod tests;
