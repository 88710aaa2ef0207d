//! Waiting between tries of a database that does not answer: growing, jittered, bounded.

use std::time::{Duration, Instant};

use rand::RngExt;

/// A quiet time after which the next failure counts as the first.
const RESET_AFTER: Duration = Duration::from_secs(10);

/// The longest wait, unless somebody is in a hurry.
const LONGEST: Duration = Duration::from_secs(2);

/// Grows from 50 ms to the longest wait.
#[derive(Debug)]
pub(super) struct Backoff {
    longest: Duration,
    failures: u32,
    last: Option<Instant>,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::up_to(LONGEST)
    }
}

impl Backoff {
    pub(super) fn up_to(longest: Duration) -> Self {
        Self {
            longest,
            failures: 0,
            last: None,
        }
    }

    /// The next wait.
    pub(super) async fn wait(&mut self) {
        if self.last.is_some_and(|last| last.elapsed() > RESET_AFTER) {
            self.failures = 0;
        }
        let bound = Duration::from_millis(50 << self.failures.min(6)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        let wait = rand::rng().random_range(bound / 2..=bound);
        tokio::time::sleep(wait).await;
        self.last = Some(Instant::now());
    }
}
