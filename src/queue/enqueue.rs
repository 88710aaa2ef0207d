//! Writes jobs, in the caller's transaction or in bulk.
//!
//! A job without keys is one plain INSERT; keyed jobs go through the SQL function `insert_jobs`, the same
//! for every caller. The caller's transaction should end soon: a key that it takes is held until then.

use chrono::{DateTime, Utc};
use jobs::NewJob;
use sqlx::PgConnection;

use super::columns::JobColumns;
use super::payload::Payload;

/// Writes one job on the caller's connection, inside the caller's transaction if one is open. It may be merged into a
/// job that waits with the same unique key.
///
/// Its id is not asked for: of what one INSERT costs Postgres, a twentieth is the row that it returns.
///
/// # Errors
/// If the database refuses; the caller's transaction is then as Postgres leaves it.
pub async fn insert(connection: &mut PgConnection, job: &NewJob) -> Result<(), sqlx::Error> {
    if job.unique_key.is_some() || job.ordering_key.is_some() {
        return insert_keyed(connection, std::slice::from_ref(job))
            .await
            .map(drop);
    }
    sqlx::query!(
        "INSERT INTO polar_jobs.live_jobs (kind, payload, queue, run_at, priority, max_attempts, events)
         VALUES ($1, $2::json, $3, coalesce($4, now()), $5, $6, $7)",
        job.kind,
        Payload(&job.payload) as Payload<'_>,
        job.queue.name(),
        job.run_at,
        job.priority,
        i32::from(job.max_attempts),
        job.event.map(|event| vec![event]) as Option<Vec<i64>>,
    )
    .execute(connection)
    .await
    .map(drop)
}

/// As [`insert`]. Returns the job's id, or `None` where it was merged into a job that waits with the same unique key.
///
/// # Errors
/// As [`insert`].
pub async fn insert_returning_id(
    connection: &mut PgConnection,
    job: &NewJob,
) -> Result<Option<i64>, sqlx::Error> {
    let ids = insert_all(connection, std::slice::from_ref(job)).await?;
    Ok(ids.first().copied().flatten())
}

/// Writes many jobs in one statement; one answer per job, in order, as [`insert_returning_id`] gives it.
/// Keyed jobs of one batch keep their order.
///
/// # Errors
/// If the database refuses; then none is written.
pub async fn insert_all(
    connection: &mut PgConnection,
    jobs: &[NewJob],
) -> Result<Vec<Option<i64>>, sqlx::Error> {
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    if jobs
        .iter()
        .all(|job| job.unique_key.is_none() && job.ordering_key.is_none())
    {
        return insert_keyless(connection, jobs).await;
    }
    insert_keyed(connection, jobs).await
}

/// Rows get their ids in the order given.
async fn insert_keyless(
    connection: &mut PgConnection,
    jobs: &[NewJob],
) -> Result<Vec<Option<i64>>, sqlx::Error> {
    let (columns, events) = (JobColumns::from_iter(jobs), events_of(jobs));
    sqlx::query_scalar!(
        r#"INSERT INTO polar_jobs.live_jobs (kind, payload, queue, run_at, priority, max_attempts, events)
           SELECT kind, payload, queue, coalesce(run_at, now()), priority, max_attempts,
                  CASE WHEN event IS NOT NULL THEN ARRAY[event] END
             FROM (SELECT unnest($1::text[]) AS kind, unnest($2::json[]) AS payload, unnest($3::text[]) AS queue,
                          unnest($4::timestamptz[]) AS run_at, unnest($5::smallint[]) AS priority,
                          unnest($6::int[]) AS max_attempts, unnest($7::bigint[]) AS event) n
           RETURNING id AS "id?""#,
        &columns.kinds as &[&str],
        &columns.payloads as &[Payload<'_>],
        &columns.queues as &[&str],
        &columns.run_ats as &[Option<DateTime<Utc>>],
        &columns.priorities,
        &columns.max_attempts,
        &events as &[Option<i64>],
    )
    .fetch_all(connection)
    .await
}

async fn insert_keyed(
    connection: &mut PgConnection,
    jobs: &[NewJob],
) -> Result<Vec<Option<i64>>, sqlx::Error> {
    let (columns, events) = (JobColumns::from_iter(jobs), events_of(jobs));
    sqlx::query_scalar!(
        r#"SELECT id AS "id?" FROM polar_jobs.insert_jobs($1, $2, $3, $4, $5, $6, $7, $8, $9) ORDER BY place"#,
        &columns.kinds as &[&str],
        &columns.payloads as &[Payload<'_>],
        &columns.queues as &[&str],
        &columns.run_ats as &[Option<DateTime<Utc>>],
        &columns.priorities,
        &columns.unique_keys as &[Option<&str>],
        &columns.ordering_keys as &[Option<&str>],
        &columns.max_attempts,
        &events as &[Option<i64>],
    )
    .fetch_all(connection)
    .await
}

/// The event that caused each.
fn events_of(jobs: &[NewJob]) -> Vec<Option<i64>> {
    jobs.iter().map(|job| job.event).collect()
}
