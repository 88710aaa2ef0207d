//! Removes names and addresses of an earlier life of organizations that live anew: what was known of its people,
//! its mails, and what Polar delivered about its customer. The present life keeps what is its own.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::{erasure, mails};
use crate::types::{OrganizationId, UserId};

/// People whose organization was deleted before `before` and lives anew without them, and who belong to no
/// other living one.
///
/// # Errors
/// If the database fails.
pub async fn people(pool: &PgPool, before: DateTime<Utc>) -> Result<Vec<UserId>, sqlx::Error> {
    let ids = sqlx::query_scalar!(
        r#"SELECT DISTINCT p.user_id AS "id!"
             FROM polar_jobs.organization_deletions d
             JOIN polar_jobs.organizations o ON o.id = d.organization_id
             JOIN polar_jobs.memberships m ON m.organization_id = o.id
             JOIN polar_jobs.unattached_people p USING (user_id)
            WHERE d.recreated_at IS NOT NULL AND d.deleted_at < $1
              -- Not those who left the present life.
              AND m.removed_at <= o.created_at
              AND (p.email IS NOT NULL OR p.name IS NOT NULL)
            ORDER BY 1"#,
        before,
    )
    .fetch_all(pool)
    .await?;
    Ok(ids.into_iter().map(UserId).collect())
}

/// Lets deliveries about the customers of those lives lose their bodies with the next
/// [`sweep`](super::erasure::sweep), and those that come later as well. Returns whether there were new ones since `again`:
/// they are swept more than once, so that neither a process that stopped in between nor a delivery that was being stored
/// leaves anything behind.
///
/// # Errors
/// If the database fails.
pub async fn forget_customers(
    pool: &PgPool,
    before: DateTime<Utc>,
    again: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    sqlx::query!(
        "INSERT INTO polar_jobs.erased_subjects (id)
         SELECT c.polar_customer_id
           FROM polar_jobs.organization_deletions d
           JOIN polar_jobs.organizations o ON o.id = d.organization_id
           JOIN polar_jobs.polar_customers c ON c.organization_id = o.id
          WHERE d.recreated_at IS NOT NULL AND d.deleted_at < $1
            -- It was known before the present life began, and is gone; the present life has another.
            AND c.seen_at < d.recreated_at AND o.deleted_at IS NULL AND o.erasure_event IS NULL
            AND o.customer_lost_at IS NULL AND o.polar_customer_id <> c.polar_customer_id
         ON CONFLICT DO NOTHING",
        before,
    )
    .execute(pool)
    .await?;
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM polar_jobs.erased_subjects WHERE since > $1) AS "new!""#,
        again,
    )
    .fetch_one(pool)
    .await
}

/// Erases what the tables hold of these people, unless they belong to a living organization by now, and of the
/// mails and differences of those lives.
///
/// # Errors
/// If the database fails.
pub async fn erase(
    connection: &mut PgConnection,
    people: &[UserId],
    before: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let people: Vec<Uuid> = people.iter().map(|user| user.0).collect();
    erasure::erase_people(connection, &people).await?;
    sqlx::query!(
        "UPDATE polar_jobs.differences f SET wanted = NULL, found = NULL, repaired_at = coalesce(f.repaired_at, now())
           FROM polar_jobs.organization_deletions d
          WHERE d.recreated_at IS NOT NULL AND d.deleted_at < $1
            AND f.organization_id = d.organization_id AND f.last_seen < d.recreated_at
            AND (f.wanted IS NOT NULL OR f.found IS NOT NULL)",
        before,
    )
    .execute(&mut *connection)
    .await?;
    let lives = sqlx::query!(
        r#"SELECT d.organization_id, max(d.recreated_at) AS "until!"
             FROM polar_jobs.organization_deletions d
            WHERE d.recreated_at IS NOT NULL AND d.deleted_at < $1
              AND EXISTS (SELECT FROM polar_jobs.mails m
                           WHERE m.organization_id = d.organization_id AND m.created_at < d.recreated_at
                             AND m.recipient IS NOT NULL)
            GROUP BY d.organization_id"#,
        before,
    )
    .fetch_all(&mut *connection)
    .await?;
    for life in lives {
        let organization = OrganizationId(life.organization_id);
        mails::erase(connection, organization, Some(life.until)).await?;
    }
    Ok(())
}
