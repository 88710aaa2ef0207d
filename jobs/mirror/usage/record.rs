//! Readings come in by the thousand: a batch is one statement, and no reading becomes a job.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::types::UsageReading;

/// What became of a batch of readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Written now.
    pub accepted: u64,
    /// Known already, or twice in the batch.
    pub duplicates: u64,
}

impl Recorded {
    /// Of `given` readings, `accepted` were new.
    pub(crate) fn of(given: usize, accepted: i64) -> Self {
        let accepted = u64::try_from(accepted).unwrap_or(0);
        Self {
            accepted,
            duplicates: (given as u64).saturating_sub(accepted),
        }
    }
}

/// Writes readings in one statement, inside the caller's transaction if one is open.
///
/// # Errors
/// If the database refuses, for instance a quantity out of range; then none is written.
pub async fn record_all(
    connection: &mut PgConnection,
    readings: &[UsageReading],
) -> Result<Recorded, sqlx::Error> {
    if readings.is_empty() {
        return Ok(Recorded::default());
    }
    let organizations: Vec<Uuid> = readings
        .iter()
        .map(|reading| reading.organization_id)
        .collect();
    let quantities: Vec<i64> = readings.iter().map(|reading| reading.quantity).collect();
    let times: Vec<Option<DateTime<Utc>>> =
        readings.iter().map(|reading| reading.recorded_at).collect();
    let ids: Vec<Option<&str>> = readings
        .iter()
        .map(|reading| reading.external_id.as_deref())
        .collect();
    let accepted = sqlx::query_scalar!(
        r#"SELECT polar_jobs.record_usage_batch($1, $2, $3, $4) AS "accepted!""#,
        &organizations,
        &quantities,
        &times as &[Option<DateTime<Utc>>],
        &ids as &[Option<&str>],
    )
    .fetch_one(connection)
    .await?;
    Ok(Recorded::of(readings.len(), accepted))
}
