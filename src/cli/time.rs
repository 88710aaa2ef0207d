//! Moments as people write them.

use std::str::FromStr;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};

use super::span::Span;

/// A day, which begins in UTC, or a moment with its zone.
pub(super) fn moment(text: &str) -> Result<DateTime<Utc>, String> {
    read(text).ok_or_else(|| {
        format!("{text:?} is no time; write it like 2026-11-01 (UTC) or 2026-11-01T08:00:00Z")
    })
}

/// The same, or how long ago.
pub(super) fn moment_or_ago(text: &str) -> Result<DateTime<Utc>, String> {
    let ago = || {
        Utc::now()
            .checked_sub_signed(chrono::TimeDelta::from_std(text.parse::<Span>().ok()?.0).ok()?)
    };
    read(text).or_else(ago).ok_or_else(|| {
        format!("{text:?} is no time; write it like 2h (so long ago), 2026-11-01 (UTC) or 2026-11-01T08:00:00Z")
    })
}

/// When a day begins.
pub(super) fn midnight(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(NaiveTime::MIN).and_utc()
}

fn read(text: &str) -> Option<DateTime<Utc>> {
    let day = NaiveDate::from_str(text).map(midnight);
    day.or_else(|_| DateTime::parse_from_rfc3339(text).map(|time| time.to_utc()))
        .ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap is a failed test
mod tests {
    use super::*;

    #[test]
    fn times_are_days_or_moments() {
        assert_eq!(
            moment("2026-11-01").unwrap(),
            moment("2026-11-01T01:00:00+01:00").unwrap()
        );
        assert!(
            moment("2026-11-01T00:00:00").is_err(),
            "a time without its zone is none"
        );
        assert!(
            moment("2h").is_err(),
            "what is billed does not move with the clock"
        );
    }

    #[test]
    fn a_span_is_so_long_ago() {
        let (before, found) = (Utc::now(), moment_or_ago("1d2h").unwrap());
        let ago = before - found;
        assert!(
            ago.num_minutes() <= 26 * 60 && ago.num_minutes() > 26 * 60 - 5,
            "{ago}"
        );
        assert_eq!(moment_or_ago("2026-11-01"), moment("2026-11-01"));
        assert!(moment_or_ago("yesterday").unwrap_err().contains("2h"));
    }
}
