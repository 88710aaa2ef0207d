//! What operators see of the work: how attempts end and how long they take, which slots are in use, what
//! was taken back from dead workers. How far behind the queues are is the fleet's matter (`telemetry::fleet`).

use std::time::{Duration, Instant};

use metrics::{counter, gauge, histogram};
use sqlx::PgPool;

use crate::queue::claim::Claimed;
use crate::queue::finish::Completion;
use crate::queue::reclaim::ReclaimedJob;
use crate::queue::release;

use super::result::{AttemptResult, BufferedResult};
use super::slots::Slots;

/// Between two looks at the slots.
const INTERVAL: Duration = Duration::from_secs(15);
/// Between two checks of the ordering keys.
const KEY_CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// An attempt begins.
pub(super) fn started(queue: &'static str, job: &Claimed) {
    if job.attempt == 1 {
        // Both by the database's clock: when it was due, and when it was claimed.
        let delay = (job.started_at - job.run_at).as_seconds_f64().max(0.0);
        histogram!("polar_jobs_start_delay_seconds", "queue" => queue).record(delay);
    }
}

/// An attempt of a kind ended.
pub(super) fn ended(kind: &'static str, result: &AttemptResult, took: Duration) {
    let word = match result {
        AttemptResult::Transactional(result) => completed(&result.completion),
        AttemptResult::Buffered(BufferedResult::Complete(completion)) => completed(completion),
        AttemptResult::Buffered(BufferedResult::Return(back)) if back.failure.is_some() => "failed",
        AttemptResult::Buffered(BufferedResult::Return(_)) => "waiting",
        AttemptResult::Buffered(BufferedResult::Discard(_)) => "discarded",
    };
    counter!("polar_jobs_attempts_total", "kind" => kind, "result" => word).increment(1);
    histogram!("polar_jobs_attempt_duration_seconds", "kind" => kind).record(took.as_secs_f64());
}

fn completed(completion: &Completion) -> &'static str {
    match completion.ignored {
        Some(_) => "ignored",
        None => "applied",
    }
}

/// A job was put back because its kind is not known here.
pub(super) fn unknown_kind() {
    counter!("polar_jobs_unknown_kind_total").increment(1);
}

/// A dead worker was removed.
pub(super) fn worker_reclaimed() {
    counter!("polar_jobs_reclaimed_workers_total").increment(1);
}

/// A job of a dead worker was taken back.
pub(super) fn job_reclaimed(job: &ReclaimedJob) {
    let result = if job.discarded {
        "discarded"
    } else {
        "returned"
    };
    counter!("polar_jobs_reclaimed_jobs_total", "result" => result).increment(1);
}

/// Measures the slots in use, and looks for ordering keys that nobody would release, for ever.
pub(super) async fn watch(pool: PgPool, slots: Vec<(String, Slots)>) {
    let mut keys_checked: Option<Instant> = None;
    loop {
        for (queue, slots) in &slots {
            gauge!("polar_jobs_slots", "queue" => queue.clone()).set(slots.bound() as f64);
            gauge!("polar_jobs_slots_used", "queue" => queue.clone()).set(slots.used() as f64);
        }
        if keys_checked.is_none_or(|checked| checked.elapsed() >= KEY_CHECK_INTERVAL) {
            keys_checked = Some(Instant::now());
            match check_keys(&pool).await {
                Ok(keys) => gauge!("polar_jobs_headless_keys").set(keys as f64),
                Err(error) => tracing::debug!(%error, "the ordering keys were not checked"),
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn check_keys(pool: &PgPool) -> Result<i64, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    release::note_headless_keys(&mut connection).await
}
