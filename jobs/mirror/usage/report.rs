//! Frozen counts on their way to Polar: which are to be sent, and what became of them.

use chrono::{DateTime, Utc};
use polar::Receipt;
use sqlx::{PgExecutor, PgPool};
use uuid::Uuid;

/// A frozen count, exactly as it is sent and, if need be, sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrozenReport {
    /// The window that it belongs to.
    pub window_end: DateTime<Utc>,
    /// Who used it.
    pub organization_id: Uuid,
    /// How much.
    pub quantity: i64,
    /// The event's id at Polar.
    pub external_id: String,
    /// The event's time: the window's end, but never ahead of the clock at closing.
    pub timestamp: DateTime<Utc>,
}

/// Decides about the reports that need no call:
///
/// - One that waited for its organization to be created is sent once it is.
/// - Reports of the self organization are excluded; it may have been configured after the window closed.
/// - Reports without a customer are excluded: they were written after its deletion was applied.
/// - A window that closed while the database's clock was far ahead gets the present time. Polar refuses a time in the future,
///   and all later windows would wait behind this one.
///
/// # Errors
/// If the database fails.
pub async fn resolve_waiting(
    pool: &PgPool,
    self_organization: Option<Uuid>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE polar_jobs.usage_reports r SET state = 'frozen' FROM polar_jobs.organizations o
          WHERE r.state = 'waiting' AND o.id = r.organization_id"
    )
    .execute(pool)
    .await?;
    sqlx::query!(
        "UPDATE polar_jobs.usage_windows SET event_timestamp = clock_timestamp()
          WHERE event_timestamp > clock_timestamp() + interval '10 minutes'"
    )
    .execute(pool)
    .await?;
    sqlx::query!(
        "UPDATE polar_jobs.usage_reports SET state = 'excluded', reason = 'the self organization is never metered'
          WHERE state IN ('frozen', 'waiting') AND organization_id = $1",
        self_organization,
    )
    .execute(pool)
    .await?;
    sqlx::query!(
        "UPDATE polar_jobs.usage_reports r SET state = 'excluded', reason = 'its customer at Polar was deleted before it was written'
           FROM polar_jobs.organization_lives l
          WHERE r.state = 'frozen' AND l.organization_id = r.organization_id
            AND (l.deleted OR r.life < l.life) AND NOT l.erasing"
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// The next reports to send, oldest window first, beyond `after`. Polar gives an event to whoever
/// holds the organization's id then: a life that ended sends while its customer is not deleted yet,
/// the present life once that is done and its own customer is there.
///
/// # Errors
/// If the database fails.
pub async fn frozen(
    pool: &PgPool,
    after: Option<&FrozenReport>,
    limit: i64,
) -> Result<Vec<FrozenReport>, sqlx::Error> {
    sqlx::query_as!(
        FrozenReport,
        r#"SELECT r.window_end, r.organization_id, r.quantity, r.external_id, w.event_timestamp AS timestamp
             FROM polar_jobs.usage_reports r JOIN polar_jobs.usage_windows w USING (window_end)
             JOIN polar_jobs.organization_lives l ON l.organization_id = r.organization_id
            WHERE r.state = 'frozen' AND r.state IN ('frozen', 'waiting')
              AND CASE WHEN l.deleted OR r.life < l.life THEN l.erasing ELSE l.has_customer AND NOT l.erasing END
              AND (r.window_end, r.organization_id) > (coalesce($1, '-infinity'::timestamptz), coalesce($2, '00000000-0000-0000-0000-000000000000'::uuid))
            ORDER BY r.window_end, r.organization_id LIMIT $3"#,
        after.map(|report| report.window_end),
        after.map(|report| report.organization_id),
        limit,
    )
    .fetch_all(pool)
    .await
}

/// Polar accounted for all of these in one answer. Doing it twice changes nothing, and keeps both
/// answers.
///
/// # Errors
/// If the database fails; the reports stay frozen and are sent again, to the same effect.
pub async fn mark_reported(
    pool: &PgPool,
    reports: &[&FrozenReport],
    receipt: Receipt,
) -> Result<(), sqlx::Error> {
    let (ends, organizations) = keys(reports);
    sqlx::query!(
        "WITH request AS (
             INSERT INTO polar_jobs.usage_requests (sent, inserted, duplicates) VALUES ($3, $4, $5) RETURNING id)
         UPDATE polar_jobs.usage_reports r
            SET state = 'reported', reason = NULL, reported_at = clock_timestamp(), request_id = (SELECT id FROM request),
                answer = CASE WHEN $5 = 0 THEN 'inserted' WHEN $4 = 0 THEN 'duplicate' ELSE 'inserted or duplicate' END
           FROM unnest($1::timestamptz[], $2::uuid[]) AS sent (window_end, organization_id)
          WHERE r.window_end = sent.window_end AND r.organization_id = sent.organization_id AND r.state = 'frozen'",
        &ends,
        &organizations,
        i32::try_from(reports.len()).unwrap_or(i32::MAX),
        i64::try_from(receipt.inserted).unwrap_or(i64::MAX),
        i64::try_from(receipt.duplicates).unwrap_or(i64::MAX),
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Polar refused these, each for its reason. They are kept, and sent again only on command.
///
/// # Errors
/// If the database fails.
pub async fn refuse(pool: &PgPool, refused: &[(&FrozenReport, &str)]) -> Result<(), sqlx::Error> {
    let reports: Vec<&FrozenReport> = refused.iter().map(|(report, _)| *report).collect();
    let reasons: Vec<&str> = refused.iter().map(|(_, reason)| *reason).collect();
    let (ends, organizations) = keys(&reports);
    sqlx::query!(
        "UPDATE polar_jobs.usage_reports r SET state = 'refused', reason = sent.reason
           FROM unnest($1::timestamptz[], $2::uuid[], $3::text[]) AS sent (window_end, organization_id, reason)
          WHERE r.window_end = sent.window_end AND r.organization_id = sent.organization_id AND r.state = 'frozen'",
        &ends,
        &organizations,
        &reasons as &[&str],
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Sends refused reports again at the next run, once their cause is repaired. `None` = of every
/// organization. Returns how many.
///
/// # Errors
/// If the database fails.
pub async fn retry_refused(
    executor: impl PgExecutor<'_>,
    organization: Option<Uuid>,
) -> Result<u64, sqlx::Error> {
    let retried = sqlx::query!(
        "UPDATE polar_jobs.usage_reports SET state = 'frozen', reason = NULL
          WHERE state = 'refused' AND ($1::uuid IS NULL OR organization_id = $1)
            -- More than an event can carry is not sent for less.
            AND quantity < 9223372036854775807",
        organization,
    )
    .execute(executor)
    .await?;
    Ok(retried.rows_affected())
}

fn keys(reports: &[&FrozenReport]) -> (Vec<DateTime<Utc>>, Vec<Uuid>) {
    reports
        .iter()
        .map(|report| (report.window_end, report.organization_id))
        .unzip()
}
