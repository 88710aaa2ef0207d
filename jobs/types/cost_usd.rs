//! A cost in US dollars, from decimal text to what Polar takes, without a binary float on the way.

use polar::CostAmount;
use rust_decimal::Decimal;

/// Decimals of a dollar that are sent: six of a cent.
const DECIMALS: usize = 8;
/// The largest cost of one reading, in units of a millionth of a cent: 10 000 000 USD.
const MAX_UNITS: u64 = 1_000_000_000_000_000;
/// What one event can carry, in the same units: 99 999.999999 cents.
const EVENT_UNITS: u64 = 99_999_999_999;
/// More text than this is no price.
const MAX_TEXT: usize = 64;

/// A cost in US dollars: plain decimal text, 0 to 10 000 000, kept as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CostUsd {
    text: String,
    units: u64,
    zero: bool,
}

/// Why a text is no cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CostUsdError {
    /// Something other than digits with at most one point among them.
    #[error("must be a plain decimal such as \"0.0123\": digits, no sign, no exponent")]
    NotPlain,
    /// More than 10 000 000 USD, or more than 64 characters.
    #[error("must be at most 10000000 US dollars, written in at most 64 characters")]
    TooLarge,
}

impl CostUsd {
    /// Reads plain decimal text.
    ///
    /// # Errors
    /// See [`CostUsdError`].
    pub fn parse(text: &str) -> Result<Self, CostUsdError> {
        if text.len() > MAX_TEXT {
            return Err(CostUsdError::TooLarge);
        }
        Self::read(text)
    }

    /// The same for a value of the table, which may have more digits.
    pub(crate) fn read(text: &str) -> Result<Self, CostUsdError> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let plain =
            |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if !plain(whole) || !plain(fraction) {
            return Err(CostUsdError::NotPlain);
        }
        let zero = text.bytes().all(|byte| matches!(byte, b'0' | b'.'));
        let units = units(whole, fraction)
            .filter(|&units| units <= MAX_UNITS)
            .ok_or(CostUsdError::TooLarge)?;
        if units == MAX_UNITS && fraction.bytes().any(|byte| byte != b'0') {
            return Err(CostUsdError::TooLarge);
        }
        Ok(Self {
            text: text.to_owned(),
            units,
            zero,
        })
    }

    /// As it was written.
    #[must_use]
    pub fn as_text(&self) -> &str {
        &self.text
    }

    /// Exactly nothing: stored, never reported. A trace that only rounds to nothing is reported.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.zero
    }

    /// The amounts of its events, in cents with six decimals: one, or as many as Polar's cap asks
    /// for. Together they are exactly the rounded cost.
    #[must_use]
    pub fn amounts(&self) -> Vec<CostAmount> {
        let mut left = self.units;
        let mut amounts = Vec::new();
        loop {
            let part = left.min(EVENT_UNITS);
            let cents = Decimal::from_i128_with_scale(i128::from(part), 6);
            amounts.push(
                CostAmount::from_cents(cents).expect("a part is at most what one event can carry"),
            );
            left -= part;
            if left == 0 {
                return amounts;
            }
        }
    }
}

/// Millionths of a cent, rounded half-even; `None` beyond 64 bits.
fn units(whole: &str, fraction: &str) -> Option<u64> {
    let kept = (0..DECIMALS).map(|place| fraction.as_bytes().get(place).copied().unwrap_or(b'0'));
    let mut units = 0u64;
    for digit in whole.bytes().chain(kept) {
        units = units
            .checked_mul(10)?
            .checked_add(u64::from(digit - b'0'))?;
    }
    let rest = fraction.as_bytes().get(DECIMALS..).unwrap_or_default();
    let above_half = rest.first().is_some_and(|&first| {
        first > b'5'
            || (first == b'5' && (units % 2 == 1 || rest[1..].iter().any(|&digit| digit != b'0')))
    });
    units.checked_add(u64::from(above_half))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap is a failed test
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sent(usd: &str) -> Vec<String> {
        CostUsd::parse(usd)
            .unwrap()
            .amounts()
            .iter()
            .map(|amount| amount.cents().to_string())
            .collect()
    }

    #[test]
    fn dollars_become_cents_with_six_decimals_rounded_half_even() {
        for (usd, cents) in [
            ("0.0123", "1.230000"),
            ("0.5", "50.000000"),
            ("0.000001", "0.000100"),
            ("0.00000001", "0.000001"),
            ("0.000000005", "0.000000"),
            ("0.0000000050000000001", "0.000001"),
            ("0.000000015", "0.000002"),
            ("0.000000025", "0.000002"),
            ("999.99999999", "99999.999999"),
            ("007", "700.000000"),
        ] {
            assert_eq!(sent(usd), [cents], "{usd}");
        }
    }

    #[test]
    fn a_cost_above_the_cap_becomes_several_amounts() {
        assert_eq!(sent("1000"), ["99999.999999", "0.000001"]);
        assert_eq!(
            sent("2500.5"),
            ["99999.999999", "99999.999999", "50050.000002"]
        );
        assert_eq!(sent("10000000").len(), 10_001);
    }

    #[test]
    fn only_plain_decimals_are_costs() {
        for text in [
            "", ".", "1.", ".5", "-1", "+1", "1e-3", "0x1", "NaN", "1,5", " 1", "1.2.3", "١",
        ] {
            assert_eq!(
                CostUsd::parse(text),
                Err(CostUsdError::NotPlain),
                "{text:?}"
            );
        }
        for text in [
            "10000000.01",
            "10000000.000000000001",
            "99999999999999999999999999",
            &"1".repeat(65),
        ] {
            assert_eq!(
                CostUsd::parse(text),
                Err(CostUsdError::TooLarge),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_trace_is_not_nothing() {
        assert!(CostUsd::parse("0").unwrap().is_zero());
        assert!(CostUsd::parse("0.000000000000").unwrap().is_zero());
        let trace = CostUsd::parse("0.0000000000001").unwrap();
        assert!(!trace.is_zero());
        assert_eq!(trace.amounts().len(), 1);
    }

    proptest! {
        #[test]
        fn the_parts_add_up_to_the_rounded_cost(whole in 0u64..10_000_000, fraction in 0u64..1_000_000_000_000) {
            let text = format!("{whole}.{fraction:012}");
            let cents = text.parse::<Decimal>().unwrap() * Decimal::ONE_HUNDRED;
            let parts: Decimal = CostUsd::parse(&text).unwrap().amounts().iter().map(|part| part.cents()).sum();
            prop_assert_eq!(parts, cents.round_dp_with_strategy(6, rust_decimal::RoundingStrategy::MidpointNearestEven));
        }
    }
}
