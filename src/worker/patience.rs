//! Waiting between tries of a database that does not answer: growing, jittered, bounded.

use std::time::Duration;

use rand::RngExt;

/// Grows from 50 ms to 2 s; reset by a success.
#[derive(Debug, Default)]
pub(super) struct Patience {
    failures: u32,
}

impl Patience {
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The next wait.
    pub(super) async fn wait(&mut self) {
        let bound = 50_u64 << self.failures.min(6);
        self.failures = self.failures.saturating_add(1);
        let millis = rand::rng().random_range(bound / 2..=bound.min(2000));
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }
}
