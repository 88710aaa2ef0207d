//! What a cost event carries: an amount that Polar takes, and what a model was used for.
//!
//! Amounts are decimals from end to end and text on the wire; a binary float would change them
//! before Polar does.

use rust_decimal::{Decimal, RoundingStrategy};
use serde::{Serialize, Serializer};

/// Decimals of a cent that are sent.
const SCALE: u32 = 6;

/// An amount in US cents that one event can carry: from 0 to 99 999.999999, rounded half-even to
/// six decimals. Polar takes at most five digits before the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CostAmount(Decimal);

/// Why an amount cannot be sent in one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CostAmountError {
    /// A cost below zero.
    #[error("a cost cannot be negative")]
    Negative,
    /// More than one event can carry; split it.
    #[error("one event carries at most 99999.999999 cents; split the cost")]
    TooLarge,
}

impl CostAmount {
    /// The most that one event can carry, in cents.
    pub const MAX: Self = Self(Decimal::from_parts(0x4876_E7FF, 0x17, 0, false, SCALE));

    /// An amount in cents.
    ///
    /// # Errors
    /// When it is negative, or rounds to more than [`CostAmount::MAX`].
    pub fn from_cents(cents: Decimal) -> Result<Self, CostAmountError> {
        if cents.is_sign_negative() && !cents.is_zero() {
            return Err(CostAmountError::Negative);
        }
        if cents > Decimal::ONE_HUNDRED * Decimal::ONE_THOUSAND {
            return Err(CostAmountError::TooLarge);
        }
        let mut amount = cents
            .abs()
            .round_dp_with_strategy(SCALE, RoundingStrategy::MidpointNearestEven);
        amount.rescale(SCALE);
        if amount > Self::MAX.0 {
            return Err(CostAmountError::TooLarge);
        }
        Ok(Self(amount))
    }

    /// The amount in cents, with six decimals.
    #[must_use]
    pub fn cents(self) -> Decimal {
        self.0
    }
}

impl Serialize for CostAmount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// The `_cost` of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cost {
    amount: CostAmount,
    currency: &'static str,
}

impl Cost {
    /// A cost in US cents, the only currency that Polar takes here.
    #[must_use]
    pub fn in_us_cents(amount: CostAmount) -> Self {
        Self {
            amount,
            currency: "usd",
        }
    }
}

/// The `_llm` of an event: what a model was used for. Polar needs all five.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LlmUsage {
    /// Who runs the model.
    pub vendor: String,
    /// Which model.
    pub model: String,
    /// Tokens read.
    pub input_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
    /// Both together.
    pub total_tokens: u64,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap is a failed test
mod tests {
    use super::*;

    fn sent(cents: &str) -> String {
        let amount = CostAmount::from_cents(cents.parse().unwrap()).unwrap();
        serde_json::to_string(&amount).unwrap()
    }

    #[test]
    fn amounts_are_text_with_six_decimals_rounded_half_even() {
        assert_eq!(sent("1.23"), "\"1.230000\"");
        assert_eq!(sent("0.0001"), "\"0.000100\"");
        assert_eq!(sent("0.0000005"), "\"0.000000\"");
        assert_eq!(sent("0.0000015"), "\"0.000002\"");
        assert_eq!(sent("-0"), "\"0.000000\"");
        assert_eq!(sent("99999.9999994999"), "\"99999.999999\"");
    }

    #[test]
    fn what_polar_refuses_cannot_be_made() {
        let make = |cents: &str| CostAmount::from_cents(cents.parse().unwrap());
        assert_eq!(make("-0.01"), Err(CostAmountError::Negative));
        assert_eq!(make("100000"), Err(CostAmountError::TooLarge));
        assert_eq!(make("99999.9999995"), Err(CostAmountError::TooLarge));
        assert_eq!(
            CostAmount::from_cents(Decimal::MAX),
            Err(CostAmountError::TooLarge)
        );
        assert_eq!(make("99999.999999").unwrap(), CostAmount::MAX);
        assert_eq!(CostAmount::MAX.cents().to_string(), "99999.999999");
    }
}
