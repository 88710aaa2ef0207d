//! Deliveries that fit none of our secrets: said once a minute, however many there are, and noted in the
//! database, so that `doctor` sees from elsewhere what otherwise only Polar knows.
//!
//! Only those count that have all that a delivery has but the right signature. What else comes to a public
//! address says nothing about our secret.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jobs::types::Timestamp;
use sqlx::PgPool;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// The time between two lines, and between two writes.
const INTERVAL: Duration = Duration::from_secs(60);
/// The next minute tries again.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Counts them, for whoever reports.
#[derive(Debug, Default)]
pub(super) struct RefusedDeliveries {
    count: AtomicU64,
    added: Notify,
}

impl RefusedDeliveries {
    pub(super) fn add(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.added.notify_one();
    }

    /// Reports the first one at once and the others by the minute, until it is dropped.
    pub(super) async fn report(&self, pool: &PgPool) {
        let mut not_noted = 0;
        loop {
            self.added.notified().await;
            let new = self.count.swap(0, Ordering::Relaxed);
            if new == 0 {
                // Already part of the report before.
                continue;
            }
            tracing::warn!(
                deliveries = new,
                "deliveries fit no configured secret; POLAR_WEBHOOK_SECRET is not that of Polar's endpoint"
            );
            not_noted += new;
            match timeout(WRITE_TIMEOUT, note(pool, not_noted)).await {
                Ok(Ok(())) => not_noted = 0,
                Ok(Err(error)) => tracing::debug!(%error, "refused deliveries were not noted"),
                Err(_) => tracing::debug!("refused deliveries were not noted in time"),
            }
            sleep(INTERVAL).await;
        }
    }
}

async fn note(pool: &PgPool, deliveries: u64) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "SELECT polar_jobs.note_refused_deliveries($1)",
        i64::try_from(deliveries).unwrap_or(i64::MAX),
    )
    .fetch_one(pool)
    .await
    .map(drop)
}

/// Deliveries that fit no secret.
#[derive(Clone, Debug)]
pub struct RefusedSummary {
    /// The first one since a delivery was accepted.
    pub since: Timestamp,
    /// The newest.
    pub last_at: Timestamp,
    /// How many.
    pub deliveries: i64,
    /// Whether a delivery was accepted after the newest.
    pub accepted_since: bool,
    /// Whether the newest came within an hour.
    pub is_recent: bool,
}

/// What the ingresses noted of deliveries that fit no secret, if there ever was one.
///
/// # Errors
/// If the database fails.
pub async fn refused_deliveries(pool: &PgPool) -> Result<Option<RefusedSummary>, sqlx::Error> {
    sqlx::query_as!(
        RefusedSummary,
        r#"SELECT since AS "since: Timestamp", last_at AS "last_at: Timestamp", deliveries,
                  coalesce(polar_jobs.last_delivery_at() > last_at, false) AS "accepted_since!",
                  last_at > now() - interval '1 hour' AS "is_recent!"
             FROM polar_jobs.refused_deliveries"#
    )
    .fetch_optional(pool)
    .await
}
