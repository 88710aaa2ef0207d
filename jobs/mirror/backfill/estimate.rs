//! What a backfill would take, counted before anything is written.

use sqlx::PgPool;
use uuid::Uuid;

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
pub async fn extent(pool: &PgPool, except: Option<Uuid>) -> Result<Extent, sqlx::Error> {
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
        except,
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
