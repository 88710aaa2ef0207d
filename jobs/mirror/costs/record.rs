//! Cost readings come in by the thousand: a batch is one statement, and no reading becomes a job.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::mirror::usage::Recorded;
use crate::types::{CostReading, CostUsd};

/// Writes readings in one statement, inside the caller's transaction if one is open.
///
/// # Errors
/// If the database refuses, for instance a text out of its length; then none is written.
pub async fn record_all(
    connection: &mut PgConnection,
    readings: &[CostReading],
) -> Result<Recorded, sqlx::Error> {
    if readings.is_empty() {
        return Ok(Recorded::default());
    }
    let text = |field: fn(&CostReading) -> Option<&str>| -> Vec<Option<&str>> {
        readings.iter().map(field).collect()
    };
    let organizations: Vec<Uuid> = readings
        .iter()
        .map(|reading| reading.organization_id)
        .collect();
    let input: Vec<Option<i64>> = readings
        .iter()
        .map(|reading| reading.input_tokens)
        .collect();
    let output: Vec<Option<i64>> = readings
        .iter()
        .map(|reading| reading.output_tokens)
        .collect();
    let times: Vec<Option<DateTime<Utc>>> =
        readings.iter().map(|reading| reading.recorded_at).collect();
    let accepted = sqlx::query_scalar!(
        r#"WITH recorded AS (
             INSERT INTO polar_jobs.costs (organization_id, source, context, vendor, model, input_tokens,
                                           output_tokens, cost_usd, usage_id, recorded_at, external_id)
             SELECT r.organization_id, r.source, r.context, r.vendor, r.model, r.input_tokens, r.output_tokens,
                    r.cost_usd::numeric, r.usage_id, coalesce(r.recorded_at, now()), r.external_id
               FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[],
                           $8::text[], $9::text[], $10::timestamptz[], $11::text[]) WITH ORDINALITY
                    AS r (organization_id, source, context, vendor, model, input_tokens, output_tokens,
                          cost_usd, usage_id, recorded_at, external_id, place)
              ORDER BY r.external_id, r.place
             ON CONFLICT (external_id) WHERE external_id IS NOT NULL DO NOTHING
             RETURNING 1)
           SELECT count(*) AS "accepted!" FROM recorded"#,
        &organizations,
        &text(|reading| Some(&reading.source)) as &[Option<&str>],
        &text(|reading| reading.context.as_deref()) as &[Option<&str>],
        &text(|reading| reading.vendor.as_deref()) as &[Option<&str>],
        &text(|reading| reading.model.as_deref()) as &[Option<&str>],
        &input as &[Option<i64>],
        &output as &[Option<i64>],
        &text(|reading| reading.cost_usd.as_ref().map(CostUsd::as_text)) as &[Option<&str>],
        &text(|reading| reading.usage_id.as_deref()) as &[Option<&str>],
        &times as &[Option<DateTime<Utc>>],
        &text(|reading| reading.external_id.as_deref()) as &[Option<&str>],
    )
    .fetch_one(connection)
    .await?;
    Ok(Recorded::of(readings.len(), accepted))
}
