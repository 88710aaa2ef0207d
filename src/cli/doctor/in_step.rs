//! What Polar does not have as it is wanted, what a comparison found to differ, and whom none can be made of. Nothing of
//! it fails or waits: only these rows say so.

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use uuid::Uuid;

use super::super::output::{counted, moment, organization, shortened};
use super::Finding;

/// Characters of a reason.
const REASON: usize = 160;

/// What differs for longest, and how much differs in all.
struct Oldest {
    organization_id: Option<Uuid>,
    organization: Option<String>,
    subject: String,
    since: DateTime<Utc>,
    reason: String,
    count: i64,
}

pub(super) async fn check(
    pool: &PgPool,
    self_organization: Option<Uuid>,
) -> Result<Vec<Finding>, sqlx::Error> {
    Ok(vec![
        known(pool).await?,
        found(pool).await?,
        compared(pool, self_organization).await?,
    ])
}

/// What was tried in vain.
async fn known(pool: &PgPool) -> Result<Finding, sqlx::Error> {
    const ABOUT: &str = "in step";
    let oldest = sqlx::query_as!(
        Oldest,
        r#"SELECT s.organization_id, (SELECT o.name FROM polar_jobs.organizations o WHERE o.id = s.organization_id) AS organization,
                  s.subject, s.since, s.reason, count(*) OVER () AS "count!"
             FROM polar_jobs.out_of_step s ORDER BY s.since, s.organization_id, s.subject LIMIT 1"#
    );
    Ok(match oldest.fetch_optional(pool).await? {
        None => Finding::ok(ABOUT, "nothing was tried in vain"),
        Some(oldest) => Finding::warning(
            ABOUT,
            format!(
                "{} not at Polar as wanted since {}; {}",
                counted(oldest.count, "subject"),
                moment(oldest.since),
                oldest.text()
            ),
            "polar-jobs organizations list --out-of-step; organizations show says why, and docs/operating.md what helps",
        ),
    })
}

/// What a comparison found that has no reason of its own above.
async fn found(pool: &PgPool) -> Result<Finding, sqlx::Error> {
    const ABOUT: &str = "differences";
    let oldest = sqlx::query_as!(
        Oldest,
        r#"SELECT d.organization_id, (SELECT o.name FROM polar_jobs.organizations o WHERE o.id = d.organization_id) AS organization,
                  d.subject, d.first_seen AS since, d.cause AS reason, count(*) OVER () AS "count!"
             FROM polar_jobs.differences d
            WHERE d.repaired_at IS NULL
              AND NOT EXISTS (SELECT FROM polar_jobs.out_of_step s
                               WHERE s.organization_id = d.organization_id AND s.subject = d.subject)
            ORDER BY d.first_seen, d.id LIMIT 1"#
    );
    Ok(match oldest.fetch_optional(pool).await? {
        None => Finding::ok(ABOUT, "the last comparison with Polar left none open"),
        Some(oldest) => Finding::warning(
            ABOUT,
            format!(
                "{} to Polar since {}; {}",
                counted(oldest.count, "difference"),
                moment(oldest.since),
                oldest.text()
            ),
            "polar-jobs reconcile lists them by cause, and --repair repairs them",
        ),
    })
}

/// Whom no run could compare although it tried: a run ends well all the same, for the others are compared. Who was not
/// tried waits for a run, as after days without a worker.
async fn compared(pool: &PgPool, self_organization: Option<Uuid>) -> Result<Finding, sqlx::Error> {
    const ABOUT: &str = "comparison";
    let oldest = sqlx::query!(
        r#"SELECT o.id, o.name, greatest(c.compared_at, o.created_at) AS "since!", count(*) OVER () AS "count!"
             FROM polar_jobs.comparisons c JOIN polar_jobs.organizations o ON o.id = c.organization_id
            WHERE o.deleted_at IS NULL AND o.id IS DISTINCT FROM $1 AND c.tried_at > now() - interval '2 days'
              AND greatest(c.compared_at, o.created_at) < now() - interval '2 days'
            ORDER BY 3, o.id LIMIT 1"#,
        self_organization,
    );
    Ok(match oldest.fetch_optional(pool).await? {
        None => Finding::ok(ABOUT, "Polar answered for everybody whom a run tried"),
        Some(oldest) => Finding::warning(
            ABOUT,
            format!(
                "{} could not be compared with Polar for more than 2 days; {} since {}",
                counted(oldest.count, "organization"),
                organization(Some(&oldest.name), None),
                moment(oldest.since)
            ),
            format!(
                "polar-jobs reconcile --organization {} tries again and says what Polar answers",
                oldest.id
            ),
        ),
    })
}

impl Oldest {
    fn text(&self) -> String {
        let whose = organization(self.organization.as_deref(), self.organization_id);
        let reason = shortened(&self.reason, REASON);
        format!("{whose} {}: {reason}", self.subject)
    }
}
