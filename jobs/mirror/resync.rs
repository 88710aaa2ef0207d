//! Whom a resync asks for: every organization and every member, whatever Polar confirmed.

use sqlx::{PgConnection, PgPool};

use crate::types::{OrganizationId, UserId};

/// Whether the organization was ever created, deleted or not.
///
/// # Errors
/// If the database fails.
pub async fn is_known(
    connection: &mut PgConnection,
    organization: OrganizationId,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM polar_jobs.organizations WHERE id = $1) AS "known!""#,
        organization.0,
    )
    .fetch_one(connection)
    .await
}

/// The members of an organization, and those who left and whom Polar once had, or about whom something is
/// noted. The owner is first.
///
/// # Errors
/// If the database fails.
pub async fn all_members_of(
    connection: &mut PgConnection,
    organization: OrganizationId,
) -> Result<Vec<UserId>, sqlx::Error> {
    let ids = sqlx::query_scalar!(
        "SELECT m.user_id FROM polar_jobs.memberships m
          WHERE m.organization_id = $1
            AND (m.removed_at IS NULL OR m.synced_event IS NOT NULL
              OR EXISTS (SELECT 1 FROM polar_jobs.out_of_step s
                          WHERE s.organization_id = m.organization_id AND s.subject = 'member/' || m.user_id))
          ORDER BY m.role <> 'owner', m.user_id",
        organization.0,
    )
    .fetch_all(connection)
    .await?;
    Ok(ids.into_iter().map(UserId).collect())
}

/// At most `limit` organizations after `after`, deleted ones included, in the order of their ids.
///
/// # Errors
/// If the database fails.
pub async fn all_organizations(
    pool: &PgPool,
    after: Option<OrganizationId>,
    limit: i64,
) -> Result<Vec<OrganizationId>, sqlx::Error> {
    let ids = sqlx::query_scalar!(
        "SELECT id FROM polar_jobs.organizations WHERE $1::uuid IS NULL OR id > $1 ORDER BY id LIMIT $2",
        after.map(|organization| organization.0),
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(ids.into_iter().map(OrganizationId).collect())
}

/// How many organizations there are, deleted ones included.
///
/// # Errors
/// If the database fails.
pub async fn count_organizations(pool: &PgPool) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM polar_jobs.organizations"#)
        .fetch_one(pool)
        .await
}
