//! The gauges of the whole fleet, read from the database: the ingress serves them too, so that they
//! can raise an alert while no worker lives.

use std::collections::BTreeSet;
use std::time::Duration;

use jobs::mirror::{differences, usage};
use metrics::gauge;
use rust_decimal::prelude::ToPrimitive;
use sqlx::PgPool;

use crate::queue::fleet::{backlogs, discarded, workers_alive};
use crate::schedule::overdue;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(15);
/// A look that takes longer is given up: the next one may find the database well again.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// Measures until dropped. While the database is away the gauges stay as they are.
pub async fn watch(pool: PgPool) {
    let mut schedules = BTreeSet::new();
    loop {
        match tokio::time::timeout(LOOK_TIMEOUT, look(&pool, &mut schedules)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the fleet was not measured"),
            Err(_) => tracing::debug!("the fleet was not measured in time"),
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn look(pool: &PgPool, schedules: &mut BTreeSet<String>) -> Result<(), sqlx::Error> {
    for backlog in backlogs(pool).await? {
        gauge!("polar_jobs_oldest_due_seconds", "queue" => backlog.queue.clone())
            .set(backlog.oldest_due);
        gauge!("polar_jobs_queue_depth", "queue" => backlog.queue).set(as_gauge(backlog.depth));
    }
    gauge!("polar_jobs_workers_alive").set(as_gauge(workers_alive(pool).await?));
    if let Some(enabled) = endpoint_enabled(pool).await? {
        gauge!("polar_jobs_webhook_endpoint_enabled").set(if enabled { 1.0 } else { 0.0 });
    }
    gauge!("polar_jobs_oldest_difference_seconds").set(differences::oldest_seconds(pool).await?);
    gauge!("polar_jobs_discarded_jobs").set(as_gauge(discarded(pool).await?));
    let uncounted = usage::uncounted(pool).await?.map_or(0, |late| late.seconds);
    gauge!("polar_jobs_usage_uncounted_seconds").set(as_gauge(uncounted));
    if let Some(proof) = usage::prove::last(pool).await? {
        let difference = proof.difference.to_f64().unwrap_or(f64::INFINITY);
        gauge!("polar_jobs_usage_difference").set(difference);
        gauge!("polar_jobs_usage_window_faults").set(f64::from(proof.window_faults));
    }
    let overdue = overdue(pool).await?;
    let known: BTreeSet<String> = overdue.iter().map(|one| one.schedule.clone()).collect();
    // A schedule that went with its release is not overdue for ever.
    for gone in schedules.difference(&known) {
        gauge!("polar_jobs_schedule_overdue_seconds", "schedule" => gone.clone()).set(0.0);
    }
    for one in overdue {
        gauge!("polar_jobs_schedule_overdue_seconds", "schedule" => one.schedule).set(one.seconds);
    }
    *schedules = known;
    Ok(())
}

/// Whether Polar delivered to us when it was last asked; `None` before the first time.
async fn endpoint_enabled(pool: &PgPool) -> Result<Option<bool>, sqlx::Error> {
    sqlx::query_scalar!("SELECT enabled FROM polar_jobs.webhook_endpoint")
        .fetch_optional(pool)
        .await
}

/// Counts here are far below what a float holds exactly.
fn as_gauge(count: i64) -> f64 {
    i32::try_from(count).map_or(f64::MAX, f64::from)
}
