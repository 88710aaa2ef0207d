//! Spans of time as people write them: `90s`, `2m`, `1d12h`.

use std::str::FromStr;
use std::time::Duration;

/// A span of time from the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

/// The longest span: a hundred years, so that no clock overflows.
const LONGEST: u64 = 100 * 365 * 86_400;

impl FromStr for Span {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "a span is numbers with s, m, h, d or w, such as 90s, 2m or 1d12h";
        let mut rest = text.strip_prefix('+').unwrap_or(text);
        let mut seconds: u64 = 0;
        if rest.is_empty() {
            return Err(FORM);
        }
        while !rest.is_empty() {
            let unit = rest.find(|c: char| !c.is_ascii_digit()).ok_or(FORM)?;
            let number: u64 = rest[..unit].parse().map_err(|_| FORM)?;
            let scale = match rest.as_bytes()[unit] {
                b's' => 1,
                b'm' => 60,
                b'h' => 3_600,
                b'd' => 86_400,
                b'w' => 7 * 86_400,
                _ => return Err(FORM),
            };
            seconds = number
                .checked_mul(scale)
                .and_then(|part| seconds.checked_add(part))
                .filter(|sum| *sum <= LONGEST)
                .ok_or("a span is at most 100 years")?;
            rest = &rest[unit + 1..];
        }
        Ok(Self(Duration::from_secs(seconds)))
    }
}

#[cfg(test)]
mod tests {
    use super::Span;

    fn seconds(text: &str) -> Option<u64> {
        text.parse().ok().map(|Span(span)| span.as_secs())
    }

    #[test]
    fn numbers_with_units_add_up_and_everything_else_is_refused() {
        assert_eq!(seconds("90s"), Some(90));
        assert_eq!(seconds("+30d"), Some(30 * 86_400));
        assert_eq!(seconds("1d12h"), Some(36 * 3_600));
        for wrong in [
            "",
            "+",
            "5",
            "m",
            "2y",
            "-2m",
            "2m3",
            "2 m",
            "99999999w",
            "5µ",
        ] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }
}
