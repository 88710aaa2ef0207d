//! Yielding without waiting for one thread. `tokio::task::yield_now` puts a task where only its own thread finds it
//! again, and that thread may meanwhile run a job that blocks it: the task would stand still as long as the job runs.

use std::future::poll_fn;
use std::task::Poll;

/// Puts the task that calls it behind others, where every thread takes it from.
pub(super) async fn let_others_run() {
    let mut behind = false;
    poll_fn(|context| {
        if behind {
            return Poll::Ready(());
        }
        behind = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
