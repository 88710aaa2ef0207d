//! What operators see of the work: how attempts end and how long they take, which slots are in use, what
//! was reclaimed from dead workers. How far behind the queues are is the fleet's matter (`telemetry::fleet`).

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use jobs::contract::{Entry, Registry, in_time};
use metrics::{Counter, Histogram, counter, gauge, histogram};
use sqlx::PgPool;

use crate::queue::claim::Claimed;
use crate::queue::finish::RequeueReason;
use crate::queue::reclaim::ReclaimedJob;
use crate::queue::release;

use super::result::{AttemptResult, BufferedResult};
use super::slots::Slots;
use super::sync_lag::SyncLag;

/// Between two looks at the slots, and two measurements of the sync lag.
const INTERVAL: Duration = Duration::from_secs(15);
/// One of them.
const MEASUREMENT_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two checks of the ordering keys.
const KEY_CHECK_INTERVAL: Duration = Duration::from_secs(60);
/// One of them.
const KEY_CHECK_TIMEOUT: Duration = Duration::from_secs(60);

/// The metrics of attempts. A handle is looked up once for each kind: that hashes and copies its labels, which shows
/// where jobs take microseconds.
#[derive(Default)]
pub(super) struct AttemptMetrics(HashMap<&'static str, KindMetrics>);

#[derive(Default)]
struct KindMetrics {
    start_delay: OnceLock<Histogram>,
    duration: OnceLock<Histogram>,
    ends: [OnceLock<Counter>; 5],
}

/// How an attempt ended, as the label `result` says it.
#[derive(Clone, Copy)]
enum End {
    Applied,
    Ignored,
    Failed,
    Waiting,
    Discarded,
}

impl AttemptMetrics {
    /// For these kinds; nothing is shown of one before its first attempt.
    pub(super) fn new(registry: &Registry) -> Self {
        let kinds = registry.entries().map(|entry| entry.kind);
        Self(kinds.map(|kind| (kind, KindMetrics::default())).collect())
    }

    /// An attempt begins.
    pub(super) fn started(&self, entry: &Entry, job: &Claimed) {
        let Some(metrics) = self.0.get(entry.kind).filter(|_| job.attempt == 1) else {
            return;
        };
        // Both by the database's clock: when it was due, and when it was claimed.
        let delay = (job.started_at - job.run_at).as_seconds_f64().max(0.0);
        let histogram = metrics.start_delay.get_or_init(
            || histogram!("polar_jobs_start_delay_seconds", "queue" => entry.queue.name()),
        );
        histogram.record(delay);
    }

    /// An attempt of a kind ended.
    pub(super) fn ended(&self, entry: &Entry, result: &AttemptResult, took: Duration) {
        let Some(metrics) = self.0.get(entry.kind) else {
            return;
        };
        let (kind, end) = (entry.kind, End::of(result));
        let counter = metrics.ends[end as usize].get_or_init(
            || counter!("polar_jobs_attempts_total", "kind" => kind, "result" => end.label()),
        );
        counter.increment(1);
        let histogram = metrics
            .duration
            .get_or_init(|| histogram!("polar_jobs_attempt_duration_seconds", "kind" => kind));
        histogram.record(took.as_secs_f64());
    }
}

impl End {
    fn of(result: &AttemptResult) -> Self {
        let completion = match result {
            AttemptResult::Transactional(result) => &result.completion,
            AttemptResult::Buffered(BufferedResult::Complete(completion)) => completion,
            AttemptResult::Buffered(BufferedResult::Requeue(requeue)) => {
                return match requeue.reason {
                    RequeueReason::Failed(_) => Self::Failed,
                    RequeueReason::Snoozed(_) | RequeueReason::Released(_) => Self::Waiting,
                };
            }
            AttemptResult::Buffered(BufferedResult::Discard(_)) => return Self::Discarded,
        };
        match completion.ignored {
            Some(_) => Self::Ignored,
            None => Self::Applied,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Ignored => "ignored",
            Self::Failed => "failed",
            Self::Waiting => "waiting",
            Self::Discarded => "discarded",
        }
    }
}

/// A job was requeued because its kind is not known here.
pub(super) fn unknown_kind() {
    counter!("polar_jobs_unknown_kind_total").increment(1);
}

/// A dead worker was removed.
pub(super) fn worker_reclaimed() {
    counter!("polar_jobs_reclaimed_workers_total").increment(1);
}

/// A job of a dead worker was reclaimed.
pub(super) fn job_reclaimed(job: &ReclaimedJob) {
    let result = if job.discarded {
        "discarded"
    } else {
        "returned"
    };
    counter!("polar_jobs_reclaimed_jobs_total", "result" => result).increment(1);
}

/// Measures the slots in use and the sync lag, and looks for ordering keys that nobody would release, for ever.
pub(super) async fn watch(pool: PgPool, slots: Vec<(String, Slots)>, sync_lag: Arc<SyncLag>) {
    let mut keys_checked: Option<Instant> = None;
    loop {
        for (queue, slots) in &slots {
            gauge!("polar_jobs_slots", "queue" => queue.clone()).set(slots.bound() as f64);
            gauge!("polar_jobs_slots_used", "queue" => queue.clone()).set(slots.used() as f64);
        }
        if let Err(error) = in_time(MEASUREMENT_TIMEOUT, sync_lag.measure(&pool)).await {
            tracing::debug!(%error, "the sync lag was not measured");
        }
        if keys_checked.is_none_or(|checked| checked.elapsed() >= KEY_CHECK_INTERVAL) {
            keys_checked = Some(Instant::now());
            match in_time(KEY_CHECK_TIMEOUT, check_keys(&pool)).await {
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
