//! An outage of the receiver is survived for as long as Polar keeps trying, and no longer.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

/// HTTP attempts in all.
pub(crate) const ATTEMPTS: usize = 10;
const BASE_SECONDS: f64 = 2.0;
const CEILING_SECONDS: f64 = 20.0 * 60.0;

/// The wait after the `made`-th attempt (from 1): 2 s × 2^k × uniform(1, 2), above 20 min then 20 min × uniform(0.5, 1).
pub(crate) fn delay_after(made: usize, scale: f64, dice: &mut StdRng) -> Duration {
    let exponent = i32::try_from(made).unwrap_or(i32::MAX).min(30);
    let seconds = BASE_SECONDS * 2_f64.powi(exponent) * dice.random_range(1.0..2.0);
    let seconds = if seconds > CEILING_SECONDS {
        CEILING_SECONDS * dice.random_range(0.5..1.0)
    } else {
        seconds
    };
    Duration::from_secs_f64(seconds * scale)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn waits_follow_polars_schedule() {
        let bounds = [
            (4.0, 8.0),
            (8.0, 16.0),
            (16.0, 32.0),
            (32.0, 64.0),
            (64.0, 128.0),
            (128.0, 256.0),
            (256.0, 512.0),
            (512.0, 1024.0),
            (600.0, 1200.0),
        ];
        for seed in 0..200 {
            let mut dice = StdRng::seed_from_u64(seed);
            for (index, (least, most)) in bounds.iter().enumerate() {
                let seconds = delay_after(index + 1, 1.0, &mut dice).as_secs_f64();
                assert!(
                    (*least..=*most).contains(&seconds),
                    "after attempt {}: {seconds}",
                    index + 1
                );
            }
        }
    }
}
