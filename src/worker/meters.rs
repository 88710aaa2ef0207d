//! What operators see of the work: how attempts end, and how far behind the queues are.

use std::time::Duration;

use metrics::{counter, gauge};
use sqlx::PgPool;

use crate::queue::finish::Completion;
use crate::queue::runnable;

use super::ending::{Attempted, Ending};

/// Between two looks at the queues.
const LOOK: Duration = Duration::from_secs(15);

/// Counts how an attempt of a kind ended.
pub(super) fn attempt(kind: &'static str, attempted: &Attempted) {
    let word = match attempted {
        Attempted::Within(within) => completed(&within.completion),
        Attempted::Ended(Ending::Complete(completion)) => completed(completion),
        Attempted::Ended(Ending::Return(back)) if back.failure.is_some() => "failed",
        Attempted::Ended(Ending::Return(_)) => "waits",
        Attempted::Ended(Ending::Discard(_)) => "discarded",
    };
    counter!("polar_jobs_attempts_total", "kind" => kind, "ending" => word).increment(1);
}

fn completed(completion: &Completion) -> &'static str {
    match completion.ignored {
        Some(_) => "ignored",
        None => "applied",
    }
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
