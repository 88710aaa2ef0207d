//! Notices when the database's clock steps forward, as after its host was suspended: every lease of a worker is over
//! at once then, and says nothing about the worker until its next heartbeat.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

/// A smaller step leaves every living worker's lease in force until it is renewed.
const STEP: TimeDelta = TimeDelta::seconds(5);

/// The clock as it was read last, beside a clock of ours that never steps.
#[derive(Debug, Default)]
pub(super) struct DatabaseClock {
    last: Option<Reading>,
    stepped: Option<Instant>,
}

/// One reading, and when it was asked for.
#[derive(Clone, Copy, Debug)]
struct Reading {
    asked: Instant,
    time: DateTime<Utc>,
}

impl DatabaseClock {
    /// The database said `time` at some moment from `asked` to `answered`.
    pub(super) fn read(&mut self, asked: Instant, time: DateTime<Utc>, answered: Instant) {
        let before = self.last.replace(Reading { asked, time });
        // Before the first reading nobody knows.
        let stepped = before.is_none_or(|before| {
            // The longest that can have passed between both.
            let passed = answered.saturating_duration_since(before.asked);
            let passed = TimeDelta::from_std(passed).unwrap_or(TimeDelta::MAX);
            time - before.time > passed.checked_add(&STEP).unwrap_or(TimeDelta::MAX)
        });
        if stepped {
            self.stepped = Some(answered);
        }
    }

    /// Whether it stepped forward less than `ago` before `now`, or may have.
    pub(super) fn stepped_within(&self, ago: Duration, now: Instant) -> bool {
        self.stepped
            .is_some_and(|stepped| now.saturating_duration_since(stepped) < ago)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Readings as (seconds of ours when asked, when answered, seconds of the database).
    fn after(readings: &[(u64, u64, i64)]) -> (DatabaseClock, Instant) {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut clock = DatabaseClock::default();
        for (asked, answered, time) in readings {
            let time = DateTime::UNIX_EPOCH + TimeDelta::seconds(*time);
            clock.read(at(*asked), time, at(*answered));
        }
        (clock, begin)
    }

    fn steps(readings: &[(u64, u64, i64)]) -> bool {
        let (clock, begin) = after(readings);
        // After the first answer, before which nobody knows.
        let ago = Duration::from_secs(60 - readings[0].1);
        clock.stepped_within(ago, begin + Duration::from_secs(60))
    }

    #[test]
    fn a_clock_that_runs_like_ours_has_not_stepped_however_late_it_was_read() {
        assert!(!steps(&[(0, 0, 1_000)]));
        assert!(!steps(&[(0, 0, 1_000), (1, 1, 1_001), (2, 2, 1_002)]));
        assert!(!steps(&[(0, 9, 1_000), (10, 19, 1_019)]));
        assert!(!steps(&[(0, 0, 1_000), (50, 50, 1_050)]));
        assert!(!steps(&[(0, 0, 1_000), (1, 1, 1_006)]));
    }

    #[test]
    fn the_first_reading_may_have_come_right_after_a_step() {
        let (clock, begin) = after(&[(0, 0, 1_000), (1, 1, 1_001)]);
        let ago = Duration::from_secs(12);
        assert!(clock.stepped_within(ago, begin + Duration::from_secs(11)));
        assert!(!clock.stepped_within(ago, begin + Duration::from_secs(12)));
    }

    #[test]
    fn a_clock_that_is_set_back_makes_no_lease_end_early() {
        assert!(!steps(&[(0, 0, 1_000), (1, 1, 400), (2, 2, 401)]));
    }

    #[test]
    fn a_step_forward_counts_for_as_long_as_is_asked() {
        let (clock, begin) = after(&[(0, 0, 1_000), (1, 1, 1_040), (2, 2, 1_041)]);
        let ago = Duration::from_secs(12);
        assert!(clock.stepped_within(ago, begin + Duration::from_secs(12)));
        assert!(!clock.stepped_within(ago, begin + Duration::from_secs(13)));
    }
}
