//! Waiting between tries of a database that does not answer: growing, jittered, bounded.

use std::time::{Duration, Instant};

use rand::RngExt;

/// A quiet time after which the next failure counts as the first.
const RESET_AFTER: Duration = Duration::from_secs(10);

/// Grows from 50 ms to 2 s.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    last: Option<Instant>,
}

impl Backoff {
    /// The next wait.
    pub(super) async fn wait(&mut self) {
        if self.last.is_some_and(|last| last.elapsed() > RESET_AFTER) {
            self.failures = 0;
        }
        let bound = (50_u64 << self.failures.min(6)).min(2000);
        self.failures = self.failures.saturating_add(1);
        let millis = rand::rng().random_range(bound / 2..=bound);
        tokio::time::sleep(Duration::from_millis(millis)).await;
        self.last = Some(Instant::now());
    }
}
