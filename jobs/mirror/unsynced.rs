//! What Polar has not confirmed: the work that waits while billing is off, or was given up.

use sqlx::{PgConnection, PgPool};

use crate::terms::{OrganizationId, UserId};

/// The members of an organization that Polar has not confirmed as they are wanted now. The owner
/// is first.
///
/// # Errors
/// If the database fails.
pub async fn members_of(
    connection: &mut PgConnection,
    organization: OrganizationId,
) -> Result<Vec<UserId>, sqlx::Error> {
    let ids = sqlx::query_scalar!(
        "SELECT m.user_id
           FROM polar_jobs.memberships m JOIN polar_jobs.people p USING (user_id)
          WHERE m.organization_id = $1
            AND m.synced_event IS DISTINCT FROM greatest(m.event_id, p.email_event, p.name_event)
            AND (m.removed_at IS NULL OR m.synced_event IS NOT NULL)
          ORDER BY m.role <> 'owner', m.user_id",
        organization.0,
    )
    .fetch_all(connection)
    .await?;
    Ok(ids.into_iter().map(UserId).collect())
}

/// An organization with something that Polar has not confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsynced {
    /// Which.
    pub organization: OrganizationId,
    /// Deliveries about it came while billing was off.
    pub stale: bool,
}

/// At most `limit` organizations, in the order of their ids after `after`, of which Polar has not
/// confirmed something.
///
/// # Errors
/// If the database fails.
pub async fn organizations(
    pool: &PgPool,
    after: Option<OrganizationId>,
    limit: i64,
) -> Result<Vec<Unsynced>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"SELECT o.id, o.stale
             FROM polar_jobs.organizations o
            WHERE ($1::uuid IS NULL OR o.id > $1)
              AND (o.synced_event IS DISTINCT FROM o.event_id OR o.stale
                   OR (o.deleted_at IS NULL AND EXISTS (
                       SELECT 1 FROM polar_jobs.memberships m JOIN polar_jobs.people p USING (user_id)
                        WHERE m.organization_id = o.id
                          AND m.synced_event IS DISTINCT FROM greatest(m.event_id, p.email_event, p.name_event)
                          AND (m.removed_at IS NULL OR m.synced_event IS NOT NULL))))
            ORDER BY o.id LIMIT $2"#,
        after.map(|organization| organization.0),
        limit,
    )
    .fetch_all(pool)
    .await?;
    let unsynced = |id, stale| Unsynced {
        organization: OrganizationId(id),
        stale,
    };
    Ok(rows
        .into_iter()
        .map(|row| unsynced(row.id, row.stale))
        .collect())
}

/// Notes that a delivery about an organization could not be followed up.
///
/// # Errors
/// If the database fails.
pub async fn note_stale(
    connection: &mut PgConnection,
    organization: OrganizationId,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE polar_jobs.organizations SET stale = true WHERE id = $1",
        organization.0
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes the note back, in the transaction that enqueues the asking.
///
/// # Errors
/// If the database fails.
pub async fn clear_stale(
    connection: &mut PgConnection,
    organization: OrganizationId,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE polar_jobs.organizations SET stale = false WHERE id = $1 AND stale",
        organization.0
    )
    .execute(connection)
    .await?;
    Ok(())
}
