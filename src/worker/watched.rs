//! The tasks of attempts, seen from outside: one that computes on and on says nothing itself.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::timeout;
use tracing::Span;

/// An attempt that has not ended so long after its timeout holds up its thread.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);

/// Ends a task whose result nobody waits for any more.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The attempt that a task is at.
#[derive(Default)]
pub(super) struct Watched(Mutex<Option<Running>>);

struct Running {
    begun: Instant,
    timeout: Duration,
    span: Span,
}

impl Watched {
    pub(super) fn begins(&self, timeout: Duration, span: &Span) {
        *self.lock() = Some(Running {
            begun: Instant::now(),
            timeout,
            span: span.clone(),
        });
    }

    pub(super) fn ends(&self) {
        *self.lock() = None;
    }

    /// Waits for the end of the task that runs these attempts, and aborts it when dropped.
    pub(super) async fn until_end(&self, mut task: JoinHandle<()>) {
        let _abort = AbortOnDrop(task.abort_handle());
        while timeout(WATCH_INTERVAL, &mut task).await.is_err() {
            if let Some(running) = &*self.lock()
                && running.begun.elapsed() > running.timeout.saturating_add(WATCH_INTERVAL)
            {
                running.span.in_scope(|| {
                    tracing::error!(
                        "took longer than its timeout and blocks its thread; it cannot be cancelled"
                    );
                });
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
