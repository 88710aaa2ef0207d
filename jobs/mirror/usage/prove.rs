//! The books, audited: what was recorded is counted again from the readings and held against what
//! was frozen, what was sent, and what Polar answered.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::PgPool;
use uuid::Uuid;

use super::FrozenReport;

/// One window of one organization.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Line {
    /// The window.
    pub window_end: DateTime<Utc>,
    /// Readings counted again now; `None` once they were deleted after their retention.
    pub readings: Option<i64>,
    /// Their sum; `None` like `readings`.
    pub recorded: Option<Decimal>,
    /// What the window froze, history included; `None` where nothing was frozen.
    pub counted: Option<Decimal>,
    /// What an event says, or would say.
    pub quantity: Option<i64>,
    /// See the table `usage_reports`.
    pub state: Option<String>,
    /// Why it was excluded or refused.
    pub reason: Option<String>,
    /// The event's id at Polar.
    pub external_id: Option<String>,
    /// Polar's answer to the request it travelled in.
    pub answer: Option<String>,
    /// Events in that request: sent, new to Polar, known to Polar.
    pub request: Option<(i32, i64, i64)>,
    /// When Polar's answer was stored.
    pub reported_at: Option<DateTime<Utc>>,
}

impl Line {
    /// What is wrong or unfinished about this window, if anything is.
    #[must_use]
    pub fn difference(&self) -> Option<String> {
        let Some(counted) = self.counted else {
            return Some("recorded, but never counted".to_owned());
        };
        if let Some(recorded) = self.recorded.filter(|recorded| *recorded != counted) {
            return Some(format!("recorded {recorded}, but counted {counted}"));
        }
        match self.state.as_deref() {
            Some("reported") => match self.request {
                Some((sent, inserted, duplicates)) if inserted + duplicates == i64::from(sent) => {
                    None
                }
                _ => Some("reported, but Polar's answer is missing".to_owned()),
            },
            Some("excluded") => None,
            Some("frozen") => Some("not reported yet".to_owned()),
            Some("waiting") => Some("waits for organization.created".to_owned()),
            _ => Some("refused by Polar".to_owned()),
        }
    }
}

/// Every window that ends in `from..to` and holds something of the organization, oldest first.
///
/// # Errors
/// If the database fails.
pub async fn lines(
    pool: &PgPool,
    organization: Uuid,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Vec<Line>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"WITH windows AS MATERIALIZED (
               SELECT * FROM polar_jobs.usage_windows WHERE window_end >= $2 AND window_end < $3
           ), recounted AS (
               SELECT w.window_end, count(*) AS readings, sum(u.quantity) AS recorded
                 FROM windows w JOIN polar_jobs.usage u ON u.written_by >= w.from_xid AND u.written_by < w.to_xid
                WHERE u.organization_id = $1 AND w.pruned_at IS NULL GROUP BY w.window_end
           ), reported AS (
               SELECT r.*, a.sent, a.inserted, a.duplicates
                 FROM polar_jobs.usage_reports r LEFT JOIN polar_jobs.usage_requests a ON a.id = r.request_id
                WHERE r.organization_id = $1 AND r.window_end >= $2 AND r.window_end < $3)
           SELECT w.window_end, c.readings AS "readings?", c.recorded AS "recorded?",
                  r.quantity::numeric + r.history AS "counted?", r.quantity AS "quantity?", r.state AS "state?",
                  r.reason AS "reason?", r.external_id AS "external_id?", r.answer AS "answer?",
                  r.sent AS "sent?", r.inserted AS "inserted?", r.duplicates AS "duplicates?",
                  r.reported_at AS "reported_at?", w.pruned_at IS NOT NULL AS "pruned!"
             FROM windows w
             LEFT JOIN recounted c ON c.window_end = w.window_end
             LEFT JOIN reported r ON r.window_end = w.window_end
            WHERE c.window_end IS NOT NULL OR r.window_end IS NOT NULL
            ORDER BY w.window_end"#,
        organization,
        from,
        to,
    )
    .fetch_all(pool)
    .await?;
    let lines = rows.into_iter().map(|row| Line {
        window_end: row.window_end,
        // A window without readings recorded nothing; a pruned one does not tell any more.
        readings: row.readings.or((!row.pruned).then_some(0)),
        recorded: row.recorded.or((!row.pruned).then_some(Decimal::ZERO)),
        counted: row.counted,
        quantity: row.quantity,
        state: row.state,
        reason: row.reason,
        external_id: row.external_id,
        answer: row.answer,
        request: row
            .sent
            .zip(row.inserted)
            .zip(row.duplicates)
            .map(|((sent, new), known)| (sent, new, known)),
        reported_at: row.reported_at,
    });
    Ok(lines.collect())
}

/// What the reports of a month came to that were deleted after their retention.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Folded {
    /// `reported` or `excluded`.
    pub state: String,
    /// How many reports.
    pub reports: i64,
    /// Readings behind them.
    pub readings: Decimal,
    /// What their events said, or would have said.
    pub quantity: Decimal,
    /// What they held besides, not to be reported.
    pub history: Decimal,
}

/// The sums of an organization's deleted reports in the months that begin in `from..to`.
///
/// # Errors
/// If the database fails.
pub async fn folded(
    pool: &PgPool,
    organization: Uuid,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Vec<Folded>, sqlx::Error> {
    sqlx::query_as!(
        Folded,
        r#"SELECT state, sum(reports)::bigint AS "reports!", sum(readings) AS "readings!",
                  sum(quantity) AS "quantity!", sum(history) AS "history!"
             FROM polar_jobs.usage_months
            WHERE organization_id = $1 AND month >= $2 AND month < $3
            GROUP BY state ORDER BY state DESC"#,
        organization,
        from.date_naive(),
        to.date_naive(),
    )
    .fetch_all(pool)
    .await
}

/// What was reported for an organization in windows that end in `from..to`, exactly as it was sent.
///
/// # Errors
/// If the database fails.
pub async fn reported(
    pool: &PgPool,
    organization: Uuid,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Vec<FrozenReport>, sqlx::Error> {
    sqlx::query_as!(
        FrozenReport,
        r#"SELECT r.window_end, r.organization_id, r.quantity, r.external_id, w.event_timestamp AS timestamp
             FROM polar_jobs.usage_reports r JOIN polar_jobs.usage_windows w USING (window_end)
            WHERE r.state = 'reported' AND r.organization_id = $1 AND r.window_end >= $2 AND r.window_end < $3
            ORDER BY r.window_end"#,
        organization,
        from,
        to,
    )
    .fetch_all(pool)
    .await
}

/// Readings of an organization that no window holds yet: how many, and their sum.
///
/// # Errors
/// If the database fails.
pub async fn open(pool: &PgPool, organization: Uuid) -> Result<(i64, Decimal), sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT count(*) AS "readings!", coalesce(sum(quantity), 0) AS "recorded!" FROM polar_jobs.usage
            WHERE organization_id = $1 AND written_by >= (SELECT from_xid FROM polar_jobs.usage_cursor)"#,
        organization,
    )
    .fetch_one(pool)
    .await?;
    Ok((row.readings, row.recorded))
}

/// What the last nightly proof found.
#[derive(Clone, Copy, Debug)]
pub struct LastProof {
    /// Usage that is missing or too much, added up.
    pub difference: Decimal,
    /// Windows that do not fit together.
    pub window_faults: i32,
}

/// Keeps what a proof found in place of what the one before did.
pub async fn keep(pool: &PgPool, difference: Decimal, faults: usize) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO polar_jobs.usage_proofs (difference, window_faults) VALUES ($1, $2)
         ON CONFLICT (last) DO UPDATE SET at = now(), difference = excluded.difference,
                                          window_faults = excluded.window_faults",
        difference,
        i32::try_from(faults).unwrap_or(i32::MAX),
    )
    .execute(pool)
    .await
    .map(drop)
}

/// What the last proof found; `None` before the first.
pub async fn last(pool: &PgPool) -> Result<Option<LastProof>, sqlx::Error> {
    sqlx::query_as!(
        LastProof,
        "SELECT difference, window_faults FROM polar_jobs.usage_proofs"
    )
    .fetch_optional(pool)
    .await
}

/// What is wrong with the chain of windows itself: a gap or an overlap between two, or readings
/// below the first. Empty when every reading lies in exactly one window or in the open one.
///
/// # Errors
/// If the database fails.
pub async fn chain_faults(pool: &PgPool) -> Result<Vec<String>, sqlx::Error> {
    let mut faults = sqlx::query_scalar!(
        r#"SELECT 'the window ending ' || window_end || ' does not end where the next one starts' AS "fault!"
             FROM (SELECT window_end, to_xid, pruned_at,
                          lead(from_xid, 1, (SELECT from_xid FROM polar_jobs.usage_cursor))
                          OVER (ORDER BY window_end) AS next_xid FROM polar_jobs.usage_windows) chain
            WHERE to_xid <> next_xid AND pruned_at IS NULL ORDER BY window_end"#
    )
    .fetch_all(pool)
    .await?;
    let strays = sqlx::query_scalar!(
        r#"SELECT count(*) AS "strays!" FROM polar_jobs.usage u
            WHERE u.written_by > 0 AND u.written_by < coalesce(
                (SELECT from_xid FROM polar_jobs.usage_windows WHERE pruned_at IS NULL ORDER BY window_end LIMIT 1),
                (SELECT from_xid FROM polar_jobs.usage_cursor))
              AND NOT EXISTS (SELECT 1 FROM polar_jobs.usage_windows w
                               WHERE u.written_by >= w.from_xid AND u.written_by < w.to_xid)"#
    )
    .fetch_one(pool)
    .await?;
    if strays > 0 {
        faults.push(format!("{strays} readings lie in no window"));
    }
    Ok(faults)
}

/// The sum over all organizations of what is recorded but not counted as frozen, or frozen and
/// neither reported nor excluded, in the windows that closed in `from..to`. 0 = the books balance.
///
/// # Errors
/// If the database fails.
pub async fn difference(
    pool: &PgPool,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Decimal, sqlx::Error> {
    sqlx::query_scalar!(
        r#"WITH windows AS MATERIALIZED (
               SELECT * FROM polar_jobs.usage_windows WHERE window_end >= $1 AND window_end < $2
           ), recounted AS (
               SELECT w.window_end, u.organization_id, sum(u.quantity) AS recorded
                 FROM windows w JOIN polar_jobs.usage u ON u.written_by >= w.from_xid AND u.written_by < w.to_xid
                WHERE w.pruned_at IS NULL GROUP BY w.window_end, u.organization_id
           ), frozen AS (
               SELECT r.window_end, r.organization_id, r.quantity::numeric + r.history AS counted, w.pruned_at,
                      CASE WHEN r.state IN ('reported', 'excluded') THEN 0 ELSE r.quantity END AS missing
                 FROM polar_jobs.usage_reports r JOIN windows w USING (window_end))
           SELECT coalesce(sum(coalesce(f.missing, 0) + CASE WHEN f.pruned_at IS NULL
                      THEN abs(coalesce(c.recorded, 0) - coalesce(f.counted, 0)) ELSE 0 END), 0) AS "difference!"
             FROM recounted c FULL JOIN frozen f USING (window_end, organization_id)"#,
        from,
        to,
    )
    .fetch_one(pool)
    .await
}
