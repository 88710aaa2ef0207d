//! The audit of usage: what was recorded is counted again from the readings and compared with what was
//! frozen, what was sent, and what Polar answered.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::PgPool;
use uuid::Uuid;

use super::FrozenReport;

/// One window of one organization: what was recorded, counted and reported in it.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditedWindow {
    /// The window.
    pub window_end: DateTime<Utc>,
    /// The readings, counted again now; `None` once they were deleted after their retention.
    pub recount: Option<Recount>,
    /// What the window froze; `None` where nothing was frozen.
    pub report: Option<AuditedReport>,
}

/// The readings of an organization in a window.
#[derive(Clone, Debug, PartialEq)]
pub struct Recount {
    /// How many.
    pub readings: i64,
    /// Their sum.
    pub quantity: Decimal,
}

/// What a window froze of an organization.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditedReport {
    /// The sum of the readings, history included.
    pub counted: Decimal,
    /// What an event says, or would say.
    pub quantity: i64,
    /// The event's id at Polar.
    pub external_id: String,
    /// What became of it.
    pub state: ReportState,
}

/// What became of a report: see the table `usage_reports`.
#[derive(Clone, Debug, PartialEq)]
pub enum ReportState {
    /// To be sent.
    Frozen,
    /// The organization is not created yet.
    Waiting,
    /// Polar answered.
    Reported {
        /// When the answer was stored.
        at: DateTime<Utc>,
        /// Whether the event was new to Polar.
        answer: Option<String>,
        /// The request it was sent in.
        request: Option<AnsweredRequest>,
    },
    /// Polar refused it.
    Refused {
        /// Why.
        reason: String,
    },
    /// Not to be sent.
    Excluded {
        /// Why.
        reason: String,
    },
}

/// A request with events, and what Polar answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnsweredRequest {
    /// Events that were sent.
    pub sent: i32,
    /// Events that were new to Polar.
    pub inserted: i64,
    /// Events that Polar knew.
    pub duplicates: i64,
}

impl AuditedWindow {
    /// Returns what is wrong or unfinished about this window, if anything is.
    #[must_use]
    pub fn difference(&self) -> Option<String> {
        let Some(report) = &self.report else {
            return Some("recorded, but never counted".to_owned());
        };
        let (recount, counted) = (self.recount.as_ref(), report.counted);
        if let Some(recount) = recount.filter(|recount| recount.quantity != counted) {
            return Some(format!(
                "recorded {}, but counted {counted}",
                recount.quantity
            ));
        }
        report.state.missing().map(str::to_owned)
    }
}

impl ReportState {
    /// Returns the text in the table.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Frozen => "frozen",
            Self::Waiting => "waiting",
            Self::Reported { .. } => "reported",
            Self::Refused { .. } => "refused",
            Self::Excluded { .. } => "excluded",
        }
    }

    /// Returns why it was refused or excluded.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Refused { reason } | Self::Excluded { reason } => Some(reason),
            Self::Frozen | Self::Waiting | Self::Reported { .. } => None,
        }
    }

    /// What is missing until Polar accounted for it.
    fn missing(&self) -> Option<&'static str> {
        match self {
            Self::Reported {
                request: Some(request),
                ..
            } if request.is_accounted_for() => None,
            Self::Reported { .. } => Some("reported, but Polar's answer is missing"),
            Self::Excluded { .. } => None,
            Self::Frozen => Some("not reported yet"),
            Self::Waiting => Some("waits for organization.created"),
            Self::Refused { .. } => Some("refused by Polar"),
        }
    }
}

impl AnsweredRequest {
    fn is_accounted_for(self) -> bool {
        self.inserted + self.duplicates == i64::from(self.sent)
    }
}

/// A window with what it may hold of the organization.
struct Row {
    window_end: DateTime<Utc>,
    pruned: bool,
    readings: Option<i64>,
    recorded: Option<Decimal>,
    counted: Option<Decimal>,
    quantity: Option<i64>,
    external_id: Option<String>,
    state: Option<String>,
    reason: Option<String>,
    reported_at: Option<DateTime<Utc>>,
    answer: Option<String>,
    sent: Option<i32>,
    inserted: Option<i64>,
    duplicates: Option<i64>,
}

impl Row {
    fn audited(self) -> AuditedWindow {
        AuditedWindow {
            window_end: self.window_end,
            // A window without readings recorded nothing; of a pruned one nobody knows any more.
            recount: (!self.pruned).then(|| Recount {
                readings: self.readings.unwrap_or_default(),
                quantity: self.recorded.unwrap_or_default(),
            }),
            report: self.report(),
        }
    }

    fn report(self) -> Option<AuditedReport> {
        Some(AuditedReport {
            counted: self.counted?,
            quantity: self.quantity?,
            state: self.state()?,
            external_id: self.external_id?,
        })
    }

    fn state(&self) -> Option<ReportState> {
        let reason = || self.reason.clone().unwrap_or_default();
        Some(match self.state.as_deref()? {
            "frozen" => ReportState::Frozen,
            "waiting" => ReportState::Waiting,
            "reported" => ReportState::Reported {
                at: self.reported_at?,
                answer: self.answer.clone(),
                request: self.request(),
            },
            "refused" => ReportState::Refused { reason: reason() },
            "excluded" => ReportState::Excluded { reason: reason() },
            other => unreachable!("the table holds no state {other}"),
        })
    }

    fn request(&self) -> Option<AnsweredRequest> {
        Some(AnsweredRequest {
            sent: self.sent?,
            inserted: self.inserted?,
            duplicates: self.duplicates?,
        })
    }
}

/// Returns every window that ends in `from..to` and holds something of the organization, oldest first.
///
/// # Errors
/// If the database fails.
pub async fn windows(
    pool: &PgPool,
    organization: Uuid,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Vec<AuditedWindow>, sqlx::Error> {
    let rows = sqlx::query_as!(
        Row,
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
    Ok(rows.into_iter().map(Row::audited).collect())
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

/// Returns what an organization used that no window holds yet.
///
/// # Errors
/// If the database fails.
pub async fn open(pool: &PgPool, organization: Uuid) -> Result<Recount, sqlx::Error> {
    sqlx::query_as!(
        Recount,
        r#"SELECT count(*) AS "readings!", coalesce(sum(quantity), 0) AS "quantity!" FROM polar_jobs.usage
            WHERE organization_id = $1 AND written_by >= (SELECT from_xid FROM polar_jobs.usage_cursor)"#,
        organization,
    )
    .fetch_one(pool)
    .await
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
