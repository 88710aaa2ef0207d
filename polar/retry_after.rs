//! Reads `Retry-After`: seconds (what Polar sends) or an HTTP date (what a proxy may send).

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{HeaderMap, RETRY_AFTER};

/// Without a readable header: one whole rate limit window.
const DEFAULT: Duration = Duration::from_secs(60);
/// Never at once, whatever the header says.
const SHORTEST: Duration = Duration::from_secs(1);
/// The longest that Polar's word to wait is taken for: a mistaken header must not stop us for days.
pub const LONGEST: Duration = Duration::from_secs(3600);

/// How long to wait, within 1 s and 1 h.
pub(crate) fn read(headers: &HeaderMap, now: DateTime<Utc>) -> Duration {
    let text = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .map(str::trim);
    text.and_then(|text| seconds(text).or_else(|| until(text, now)))
        .unwrap_or(DEFAULT)
        .clamp(SHORTEST, LONGEST)
}

fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.parse().ok()?;
    // Rounded up, and too large a number is as good as the bound.
    (seconds >= 0.0).then(|| Duration::from_secs_f64(seconds.ceil().min(1e9)))
}

fn until(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    let at = DateTime::parse_from_rfc2822(text).ok()?;
    Some((at.to_utc() - now).to_std().unwrap_or(Duration::ZERO))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap is a failed test
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates_are_read_and_bounded() {
        let now = "2026-11-21T00:52:14Z".parse().unwrap();
        for (text, seconds) in [
            ("60", 60),
            ("1.2", 2),
            ("0", 1),
            ("-5", 60),
            ("86400", 3600),
            ("999999999999999999999999", 3600),
            ("inf", 3600),
            ("nan", 60),
            ("soon", 60),
            ("", 60),
            ("Sat, 21 Nov 2026 00:52:44 GMT", 30),
            ("Sat, 21 Nov 2026 00:52:00 GMT", 1),
            ("Sun, 22 Nov 2026 00:52:00 GMT", 3600),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            assert_eq!(
                read(&headers, now),
                Duration::from_secs(seconds),
                "{text:?}"
            );
        }
        assert_eq!(read(&HeaderMap::new(), now), DEFAULT);
    }
}
