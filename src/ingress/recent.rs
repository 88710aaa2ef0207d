//! An answer that all who ask within a second share: however many ask, what it costs to find it out is paid once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

/// How long an answer holds.
const FRESH: Duration = Duration::from_secs(1);

/// The last answer, if there was one. Clones share it.
#[derive(Clone)]
pub(super) struct Recent<T>(Arc<Mutex<Option<(Instant, T)>>>);

impl<T: Copy> Recent<T> {
    /// No answer yet.
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    /// Returns the answer of the last second. Whoever finds it too old looks, knowing the answer before, and the others
    /// wait for that.
    pub(super) async fn get(&self, look: impl AsyncFnOnce(Option<T>) -> T) -> T {
        let mut last = self.0.lock().await;
        if let Some((_, known)) = last.filter(|(at, _)| at.elapsed() < FRESH) {
            return known;
        }
        let found = look(last.map(|(_, before)| before)).await;
        *last = Some((Instant::now(), found));
        found
    }
}
