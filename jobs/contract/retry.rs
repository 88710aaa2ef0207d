//! When a failed job is tried again: a pure function from failures to the next delay.

use std::time::Duration;

/// Budget of failures and the growth of the delay between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Failures after which the job is discarded; at least 1.
    pub attempts: u16,
    /// Upper bound of the delay after the first failure.
    pub first: Duration,
    /// Upper bound of every later delay.
    pub ceiling: Duration,
}

impl Retry {
    /// 20 failures, 2 s doubling to at most 1 h: given up after five to nine hours.
    pub const DEFAULT: Self = Self {
        attempts: 20,
        first: Duration::from_secs(2),
        ceiling: Duration::from_secs(3600),
    };

    /// The default growth with another budget.
    #[must_use]
    pub const fn attempts(attempts: u16) -> Self {
        Self {
            attempts,
            ..Self::DEFAULT
        }
    }

    /// The delay after failure number `failures` (counted from 1).
    ///
    /// `jitter` in `0.0..=1.0` spreads a crowd: the delay lies between half and the whole of the
    /// bound, so that it both grows and never lands everybody on the same moment.
    #[must_use]
    pub fn delay(&self, failures: u32, jitter: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let bound = self.first.saturating_mul(1 << doublings).min(self.ceiling);
        bound.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn delays_grow_from_two_seconds_to_one_hour() {
        let bounds: Vec<u64> = [1, 2, 3, 11, 12, 13, 4_000_000_000]
            .map(|failures| Retry::DEFAULT.delay(failures, 1.0).as_secs())
            .into();
        assert_eq!(bounds, [2, 4, 8, 2048, 3600, 3600, 3600]);
    }

    proptest! {
        #[test]
        fn a_delay_stays_within_half_and_the_whole_of_its_bound(failures in 1u32.., jitter in 0.0f64..=1.0) {
            let (low, high) = (Retry::DEFAULT.delay(failures, 0.0), Retry::DEFAULT.delay(failures, 1.0));
            let delay = Retry::DEFAULT.delay(failures, jitter);
            prop_assert!(low <= delay && delay <= high && high <= Retry::DEFAULT.ceiling);
            prop_assert!(low >= Duration::from_secs(1));
        }
    }
}
