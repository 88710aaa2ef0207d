//! Whether Polar delivers to us, as it was last asked.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

/// Writes what a look at our endpoint found. Returns since when not everything was delivered, if that was
/// so before this look or is now: no endpoint was enabled, or none was subscribed to something we handle.
///
/// # Errors
/// If the database fails.
pub async fn note(
    connection: &mut PgConnection,
    enabled: bool,
    missing_events: &[String],
) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    let known =
        sqlx::query!("SELECT checked_at, gap_since FROM polar_jobs.webhook_endpoint FOR UPDATE")
            .fetch_optional(&mut *connection)
            .await?;
    let (checked_at, gap_since) =
        known.map_or((None, None), |row| (Some(row.checked_at), row.gap_since));
    let delivers = enabled && missing_events.is_empty();
    let gap_since = match (gap_since, delivers) {
        (None, false) => last_delivery(connection).await?.or(checked_at),
        (known, _) => known,
    };
    let gap_since = sqlx::query_scalar!(
        r#"INSERT INTO polar_jobs.webhook_endpoint AS known (checked_at, enabled, missing_events, gap_since)
           VALUES (now(), $1, $2, CASE WHEN $4 THEN $3 ELSE coalesce($3, now()) END)
           ON CONFLICT (is_only_row) DO UPDATE
              SET checked_at = excluded.checked_at, enabled = excluded.enabled, missing_events = excluded.missing_events,
                  gap_since = excluded.gap_since
           RETURNING gap_since"#,
        enabled,
        missing_events,
        gap_since,
        delivers,
    )
    .fetch_one(connection)
    .await?;
    Ok(gap_since)
}

/// When the newest delivery came.
///
/// # Errors
/// If the database fails.
pub async fn last_delivery(
    connection: &mut PgConnection,
) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    sqlx::query_scalar!(
        "SELECT received_at FROM polar_jobs.stored_events WHERE source = 'polar' ORDER BY id DESC LIMIT 1"
    )
    .fetch_optional(connection)
    .await
}

/// Polar delivers again. It never recorded what happened meanwhile, so every organization is marked as one about
/// which deliveries could not be followed up. Returns how many.
///
/// # Errors
/// If the database fails.
pub async fn close_gap(connection: &mut PgConnection) -> Result<u64, sqlx::Error> {
    sqlx::query!("UPDATE polar_jobs.webhook_endpoint SET gap_since = NULL")
        .execute(&mut *connection)
        .await?;
    // In the order of their ids, so that no two such statements wait for each other.
    let marked = sqlx::query!(
        "UPDATE polar_jobs.organizations SET stale = true
          WHERE id IN (SELECT id FROM polar_jobs.organizations WHERE deleted_at IS NULL AND NOT stale ORDER BY id FOR UPDATE)"
    )
    .execute(connection)
    .await?;
    Ok(marked.rows_affected())
}

/// Of these events those that Polar was not asked for within the last hour, in their order.
///
/// # Errors
/// If the database fails.
pub async fn not_asked_lately(pool: &PgPool, events: &[Uuid]) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT event AS "event!" FROM unnest($1::uuid[]) WITH ORDINALITY AS given (event, place)
            WHERE NOT EXISTS (SELECT 1 FROM polar_jobs.redeliveries r
                               WHERE r.event_id = event AND r.asked_at > now() - interval '1 hour')
            ORDER BY place"#,
        events,
    )
    .fetch_all(pool)
    .await
}

/// Polar was asked to send an event again.
///
/// # Errors
/// If the database fails.
pub async fn asked(pool: &PgPool, event: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO polar_jobs.redeliveries AS r (event_id) VALUES ($1)
         ON CONFLICT (event_id) DO UPDATE SET asked_at = now()",
        event,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Forgets what Polar cannot send again any more: it keeps events for 90 days.
///
/// # Errors
/// If the database fails.
pub async fn forget_old(pool: &PgPool) -> Result<(), sqlx::Error> {
    sqlx::query!("DELETE FROM polar_jobs.redeliveries WHERE asked_at < now() - interval '90 days'")
        .execute(pool)
        .await?;
    Ok(())
}
