//! Measures this installation with the product's real code paths and real semantics: leases, fencing,
//! keys, kept history, durable commits; only queues are filled by COPY, as nothing of the product does. Each benchmark works on a migrated scratch database that the
//! caller makes and drops.

mod copy;
pub mod drain;
pub mod enqueue;
pub mod fixture;
pub mod ingress;
pub mod latency;
pub mod metering;
pub mod noop;
pub mod reference;

use std::time::Duration;

/// Reads a number of clients or slots on the command line.
fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|number| (1..=10_000).contains(number))
        .ok_or_else(|| "1 to 10000".to_owned())
}

/// Returns a percentile of sorted durations, in milliseconds; 0 where there are none.
fn percentile(sorted: &[Duration], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let place = (last as f64 * share).round() as usize;
    sorted
        .get(place)
        .map_or(0.0, |duration| duration.as_nanos() as f64 / 1_000_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_milliseconds_of_the_sorted_durations() {
        let sorted: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(
            [0.0, 0.5, 0.99, 1.0].map(|share| percentile(&sorted, share) as u64),
            [1, 51, 99, 100]
        );
    }
}
