//! What came of a backfill: what is left to do, what Polar confirmed, and what stands in the way.

use sqlx::PgPool;
use uuid::Uuid;

/// Returns how many of these organizations have unfinished jobs that are not known to wait for a reason of their
/// own; `None` = of all.
///
/// # Errors
/// If the database fails.
pub async fn unfinished(pool: &PgPool, ids: Option<&[Uuid]>) -> Result<i64, sqlx::Error> {
    let ids: Option<Vec<String>> = ids.map(|ids| ids.iter().map(ToString::to_string).collect());
    sqlx::query_scalar!(
        r#"SELECT count(DISTINCT polar_jobs.job_organization(j.payload, j.ordering_key)) AS "unfinished!"
             FROM polar_jobs.jobs j
            WHERE j.state IN ('available', 'running')
              AND (j.run_at < now() + interval '2 seconds' OR NOT EXISTS (
                       SELECT FROM polar_jobs.out_of_step s
                        WHERE s.organization_id::text = j.payload ->> 'organization_id'
                          AND s.subject = CASE j.kind WHEN 'sync_member' THEN 'member/' || (j.payload ->> 'user_id') ELSE 'customer' END))
              AND j.kind IN ('apply_change', 'sync_customer', 'sync_member', 'apply_benefits', 'sync_subscription')
              AND ($1::text[] IS NULL OR polar_jobs.job_organization(j.payload, j.ordering_key) = ANY ($1))"#,
        ids.as_deref(),
    )
    .fetch_one(pool)
    .await
}

/// Something that Polar does not have as it is wanted.
#[derive(Clone, Debug)]
pub struct Clash {
    /// Whose.
    pub organization_id: Uuid,
    /// What.
    pub subject: String,
    /// Why.
    pub reason: String,
    /// Polar refuses it as it is wanted now.
    pub is_refused: bool,
    /// Who has the address at Polar that stands in the way.
    pub holder: Option<Uuid>,
}

/// What is out of step of these organizations; `None` = of all.
///
/// # Errors
/// If the database fails.
pub async fn clashes(pool: &PgPool, ids: Option<&[Uuid]>) -> Result<Vec<Clash>, sqlx::Error> {
    sqlx::query_as!(
        Clash,
        r#"SELECT organization_id, subject, reason, refused_version IS NOT NULL AS "is_refused!", holder
             FROM polar_jobs.out_of_step WHERE $1::uuid[] IS NULL OR organization_id = ANY ($1)
            ORDER BY organization_id, subject"#,
        ids,
    )
    .fetch_all(pool)
    .await
}

/// Whether a worker lives that could run jobs.
///
/// # Errors
/// If the database fails.
pub async fn worker_lives(pool: &PgPool) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM polar_jobs.workers WHERE leased_until > now()) AS "lives!""#
    )
    .fetch_one(pool)
    .await
}

/// How much of these organizations Polar has confirmed.
#[derive(Clone, Copy, Debug)]
pub struct Confirmed {
    /// Customers and members that Polar has as they are wanted.
    pub confirmed: i64,
    /// Customers and members in all.
    pub total: i64,
}

/// Counts customers and members of living organizations; `None` = of all.
///
/// # Errors
/// If the database fails.
pub async fn confirmed(pool: &PgPool, ids: Option<&[Uuid]>) -> Result<Confirmed, sqlx::Error> {
    sqlx::query_as!(
        Confirmed,
        r#"SELECT count(*) FILTER (WHERE subject.confirmed) AS "confirmed!", count(*) AS "total!"
             FROM polar_jobs.organizations o
            CROSS JOIN LATERAL (
                SELECT o.synced_event IS NOT DISTINCT FROM o.event_id AS confirmed
                 UNION ALL
                SELECT m.synced_event IS NOT DISTINCT FROM polar_jobs.member_version(m.event_id, m.removed_at, p.changed_event)
                  FROM polar_jobs.memberships m JOIN polar_jobs.people p USING (user_id)
                 WHERE m.organization_id = o.id AND m.removed_at IS NULL) subject
            WHERE o.deleted_at IS NULL AND ($1::uuid[] IS NULL OR o.id = ANY ($1))"#,
        ids,
    )
    .fetch_one(pool)
    .await
}
