//! What a backfill reads and remembers.

use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::types::OrganizationId;

/// A run over every organization that we know.
#[derive(Clone, Copy, Debug)]
pub struct Backfill {
    /// Its id.
    pub id: i64,
    /// The last organization whose jobs are written.
    pub position: Option<Uuid>,
    /// How many that were.
    pub organizations: i64,
}

/// Goes on with the run that was not finished, or begins one; holds its row until the transaction ends.
/// `None`: somebody else held it, and finished it meanwhile.
///
/// # Errors
/// If the database fails.
pub async fn open(
    connection: &mut PgConnection,
    actor: &str,
) -> Result<Option<Backfill>, sqlx::Error> {
    sqlx::query!(
        "INSERT INTO polar_jobs.backfills (actor) VALUES ($1) ON CONFLICT DO NOTHING",
        actor
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query_as!(
        Backfill,
        "SELECT id, position, organizations FROM polar_jobs.backfills WHERE finished_at IS NULL FOR UPDATE",
    )
    .fetch_optional(connection)
    .await
}

/// Remembers how far a run is; without a last organization it is finished.
///
/// # Errors
/// If the database fails.
pub async fn advance(
    connection: &mut PgConnection,
    id: i64,
    last: Option<OrganizationId>,
    organizations: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE polar_jobs.backfills
            SET position = coalesce($2, position), organizations = organizations + $3,
                finished_at = CASE WHEN $2::uuid IS NULL THEN now() END
          WHERE id = $1",
        id,
        last.map(|organization| organization.0),
        organizations,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Living organizations in the order of their ids.
///
/// # Errors
/// If the database fails.
pub async fn page(
    connection: &mut PgConnection,
    after: Option<Uuid>,
    but: Option<Uuid>,
    limit: i64,
) -> Result<Vec<OrganizationId>, sqlx::Error> {
    let ids = sqlx::query_scalar!(
        "SELECT id FROM polar_jobs.organizations
          WHERE deleted_at IS NULL AND ($1::uuid IS NULL OR id > $1) AND ($2::uuid IS NULL OR id <> $2)
          ORDER BY id LIMIT $3",
        after,
        but,
        limit,
    )
    .fetch_all(connection)
    .await?;
    Ok(ids.into_iter().map(OrganizationId).collect())
}

/// What Polar would be asked for every organization that we know.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Living organizations.
    pub organizations: i64,
    /// Members whom Polar has not confirmed as they are wanted.
    pub unconfirmed: i64,
}

/// Counts it.
///
/// # Errors
/// If the database fails.
pub async fn extent(pool: &PgPool, but: Option<Uuid>) -> Result<Extent, sqlx::Error> {
    sqlx::query_as!(
        Extent,
        r#"SELECT count(DISTINCT o.id) AS "organizations!",
                  count(p.user_id) FILTER (WHERE m.synced_event IS DISTINCT FROM
                                                     polar_jobs.member_version(m.event_id, m.removed_at, p.changed_event)
                                             AND (m.removed_at IS NULL OR m.synced_event IS NOT NULL)) AS "unconfirmed!"
             FROM polar_jobs.organizations o
             LEFT JOIN polar_jobs.memberships m ON m.organization_id = o.id
             LEFT JOIN polar_jobs.people p USING (user_id)
            WHERE o.deleted_at IS NULL AND ($1::uuid IS NULL OR o.id <> $1)"#,
        but,
    )
    .fetch_one(pool)
    .await
}

/// How many of these ids are stored already: of changes, of readings of usage, and of costs, which have ids of their own each.
///
/// # Errors
/// If the database fails.
pub async fn known_changes(
    pool: &PgPool,
    changes: &[String],
    usage: &[String],
    costs: &[String],
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT (SELECT count(*) FROM polar_jobs.event_ids WHERE source = 'app' AND external_id = ANY ($1))
                + (SELECT count(*) FROM polar_jobs.usage_external_ids WHERE external_id = ANY ($2))
                + (SELECT count(*) FROM polar_jobs.costs WHERE external_id = ANY ($3)) AS "known!""#,
        changes,
        usage,
        costs,
    )
    .fetch_one(pool)
    .await
}

/// Which of these organizations have a customer at Polar, as far as we know.
///
/// # Errors
/// If the database fails.
pub async fn with_customer(pool: &PgPool, ids: &[Uuid]) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT count(*) AS "known!" FROM polar_jobs.organizations
            WHERE id = ANY ($1) AND polar_customer_id IS NOT NULL AND deleted_at IS NULL"#,
        ids,
    )
    .fetch_one(pool)
    .await
}

/// The living organizations that these people belong to, each with the person.
///
/// # Errors
/// If the database fails.
pub async fn memberships_of(
    pool: &PgPool,
    people: &[Uuid],
) -> Result<Vec<(Uuid, Uuid)>, sqlx::Error> {
    let rows = sqlx::query!(
        "SELECT m.organization_id, m.user_id
           FROM polar_jobs.memberships m JOIN polar_jobs.organizations o ON o.id = m.organization_id
          WHERE m.user_id = ANY ($1) AND m.removed_at IS NULL AND o.deleted_at IS NULL",
        people,
    )
    .fetch_all(pool)
    .await?;
    let members = rows.into_iter();
    Ok(members
        .map(|row| (row.organization_id, row.user_id))
        .collect())
}

/// How many of these organizations unfinished jobs are about that are not known to wait for a reason of
/// their own; `None` = all.
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
