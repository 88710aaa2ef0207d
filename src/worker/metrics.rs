//! What operators see of the work: how attempts end and how long they take, how far behind the queues
//! are, what was taken back from dead workers.

use std::time::Duration;

use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use sqlx::PgPool;

use crate::queue::claim::Claimed;
use crate::queue::finish::Completion;
use crate::queue::reclaim::Reclaimed;
use crate::queue::runnable;

use super::completion::{AttemptResult, BufferedResult};
use super::slots::Slots;

/// Between two looks at the queues.
const LOOK: Duration = Duration::from_secs(15);

const ATTEMPTS: &str = "polar_jobs_attempts_total";
const DURATION: &str = "polar_jobs_attempt_duration_seconds";
const DELAY: &str = "polar_jobs_start_delay_seconds";
const SLOTS: &str = "polar_jobs_slots";
const SLOTS_USED: &str = "polar_jobs_slots_used";
const DEPTH: &str = "polar_jobs_queue_depth";
const OLDEST: &str = "polar_jobs_oldest_due_seconds";
const UNKNOWN: &str = "polar_jobs_unknown_kind_total";
const WORKERS: &str = "polar_jobs_reclaimed_workers_total";
const JOBS: &str = "polar_jobs_reclaimed_jobs_total";

/// Says what the metrics of a worker mean.
pub fn describe() {
    describe_counter!(
        ATTEMPTS,
        "Attempts that ended, by kind and result: applied, ignored, failed, discarded, waiting"
    );
    describe_histogram!(DURATION, Unit::Seconds, "How long attempts ran, by kind");
    describe_histogram!(
        DELAY,
        Unit::Seconds,
        "From the moment a job was due until its first attempt began, by queue"
    );
    describe_gauge!(SLOTS, "Jobs that this process may hold at once, by queue");
    describe_gauge!(SLOTS_USED, "Jobs that this process holds, by queue");
    describe_gauge!(
        DEPTH,
        "Due jobs that wait for a worker, by queue; counted up to 10 000"
    );
    describe_gauge!(
        OLDEST,
        Unit::Seconds,
        "Age of the oldest due job that waits, by queue"
    );
    describe_counter!(
        UNKNOWN,
        "Jobs put back because this release does not know their kind"
    );
    describe_counter!(WORKERS, "Dead workers whose jobs this process took back");
    describe_counter!(
        JOBS,
        "Jobs taken back from dead workers, by result: returned, discarded"
    );
}

/// An attempt begins.
pub(super) fn started(queue: &'static str, job: &Claimed) {
    if job.attempt == 1 {
        // Both by the database's clock: when it was due, and when it was claimed.
        let delay = (job.started_at - job.run_at).as_seconds_f64().max(0.0);
        histogram!(DELAY, "queue" => queue).record(delay);
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
    counter!(ATTEMPTS, "kind" => kind, "result" => word).increment(1);
    histogram!(DURATION, "kind" => kind).record(took.as_secs_f64());
}

fn completed(completion: &Completion) -> &'static str {
    match completion.ignored {
        Some(_) => "ignored",
        None => "applied",
    }
}

/// A job was put back because its kind is not known here.
pub(super) fn unknown_kind() {
    counter!(UNKNOWN).increment(1);
}

/// A dead worker was removed.
pub(super) fn worker_reclaimed() {
    counter!(WORKERS).increment(1);
}

/// The jobs of dead workers were taken back.
pub(super) fn jobs_reclaimed(reclaimed: Reclaimed) {
    counter!(JOBS, "result" => "returned").increment(reclaimed.returned);
    counter!(JOBS, "result" => "discarded").increment(reclaimed.discarded);
}

/// Measures the slots in use and how far behind the queues are, for ever. While the database is away the
/// gauges of the queues stay.
pub(super) async fn watch(pool: PgPool, slots: Vec<(String, Slots)>) {
    loop {
        for (queue, slots) in &slots {
            gauge!(SLOTS, "queue" => queue.clone()).set(slots.bound() as f64);
            gauge!(SLOTS_USED, "queue" => queue.clone()).set(slots.used() as f64);
        }
        match runnable::backlogs(&pool).await {
            Ok(backlogs) => {
                for backlog in backlogs {
                    gauge!(DEPTH, "queue" => backlog.queue.clone()).set(backlog.depth as f64);
                    gauge!(OLDEST, "queue" => backlog.queue).set(backlog.oldest_seconds);
                }
            }
            Err(error) => tracing::debug!(%error, "the backlogs of the queues were not measured"),
        }
        tokio::time::sleep(LOOK).await;
    }
}
