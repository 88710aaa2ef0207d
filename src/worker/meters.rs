//! What operators see of the work: how attempts end, and how far behind the queues are.

use std::time::Duration;

use metrics::{counter, gauge};
use sqlx::PgPool;

use crate::queue::runnable;

use super::ending::Ending;

/// Between two looks at the queues.
const LOOK: Duration = Duration::from_secs(15);

/// Counts how an attempt of a kind ended.
pub(super) fn attempt(kind: &'static str, ending: &Ending) {
    let word = match ending {
        Ending::Complete(done) if done.ignored.is_some() => "ignored",
        Ending::Within(within) if within.completion.ignored.is_some() => "ignored",
        Ending::Complete(_) | Ending::Within(_) => "applied",
        Ending::Return(back) if back.failure.is_some() => "failed",
        Ending::Return(_) => "waits",
        Ending::Discard(_) => "discarded",
    };
    counter!("polar_jobs_attempts_total", "kind" => kind, "ending" => word).increment(1);
}

/// Measures how far behind the queues are, for ever. While the database is away the gauges stay.
pub(super) async fn watch_delays(pool: PgPool) {
    loop {
        match runnable::delays(&pool).await {
            Ok(delays) => delays.into_iter().for_each(|delay| {
                gauge!("polar_jobs_oldest_due_seconds", "queue" => delay.queue).set(delay.seconds);
            }),
            Err(error) => tracing::debug!(%error, "the delays of the queues were not measured"),
        }
        tokio::time::sleep(LOOK).await;
    }
}
