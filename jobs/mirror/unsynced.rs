//! What Polar has not confirmed: the work that waits while billing is off, or was given up.

use std::time::Duration;

use sqlx::{PgConnection, PgPool};

use crate::types::{OrganizationId, UserId};

/// Returns the members of an organization whom Polar has not confirmed as they are wanted now, without those whom it
/// refuses. Of those who left it returns only whom Polar once confirmed, and those about whom something is noted: else
/// the note would stay for ever. The owner is first.
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
            AND m.synced_event IS DISTINCT FROM polar_jobs.member_version(m.event_id, m.removed_at, p.changed_event)
            AND (m.removed_at IS NULL OR m.synced_event IS NOT NULL
              OR EXISTS (SELECT 1 FROM polar_jobs.out_of_step s
                          WHERE s.organization_id = m.organization_id AND s.subject = 'member/' || m.user_id))
            AND NOT EXISTS (SELECT 1 FROM polar_jobs.out_of_step s
                             WHERE s.organization_id = m.organization_id AND s.subject = 'member/' || m.user_id
                               AND s.refused_version = polar_jobs.member_version(m.event_id, m.removed_at, p.changed_event))
          ORDER BY m.role <> 'owner', m.user_id",
        organization.0,
    )
    .fetch_all(connection)
    .await?;
    Ok(ids.into_iter().map(UserId).collect())
}

/// How the ordering keys of the jobs begin that sync customers and members.
#[derive(Clone, Copy, Debug)]
pub struct Keys<'a> {
    /// Of the jobs for customers; the organization's id follows.
    pub customers: &'a str,
    /// Of the jobs for members; the organization's id, a slash and the user's id follow.
    pub members: &'a str,
}

/// At most `limit` living or deleted organizations, in the order of their ids after `after`, of
/// which Polar has not confirmed something, or about which deliveries could not be followed up.
/// Left out is what another try cannot help:
///
/// - what an unfinished job with one of the `keys` works on, or every start of a worker would make
///   duplicates of what others run;
/// - what Polar refuses as it is wanted now;
/// - what was tried in vain less than `rest` ago.
///
/// Every start of a worker asks, and mostly there is nothing. So the statement begins with what is out of step, by an
/// index for organizations and one pass over the members, and not with every organization. Whether a job works on
/// a member is asked in a step of its own, for those members alone (measured with 100 000 organizations and 300 000
/// members in step: 0.3 s instead of 2 s).
///
/// # Errors
/// If the database fails.
pub async fn organizations(
    pool: &PgPool,
    after: Option<OrganizationId>,
    limit: i64,
    keys: Keys<'_>,
    rest: Duration,
) -> Result<Vec<OrganizationId>, sqlx::Error> {
    let ids = sqlx::query_scalar!(
        r#"WITH members AS MATERIALIZED (
               SELECT m.organization_id, m.user_id, m.removed_at IS NOT NULL AND m.synced_event IS NULL AS is_unknown,
                      polar_jobs.member_version(m.event_id, m.removed_at, p.changed_event) AS version
                 FROM polar_jobs.memberships m JOIN polar_jobs.people p USING (user_id)
                WHERE m.synced_event IS DISTINCT FROM polar_jobs.member_version(m.event_id, m.removed_at, p.changed_event)
           )
           SELECT id AS "id!" FROM (
               SELECT o.id FROM polar_jobs.organizations o
                WHERE (o.synced_event IS DISTINCT FROM o.event_id OR o.stale)
                  AND (o.synced_event IS DISTINCT FROM o.event_id OR o.deleted_at IS NULL)
                  AND NOT polar_jobs.has_unfinished_job($3 || o.id)
                  AND NOT EXISTS (
                      SELECT 1 FROM polar_jobs.out_of_step s
                       WHERE s.organization_id = o.id AND s.subject = 'customer'
                         AND (s.refused_version = polar_jobs.customer_version(o.id)
                           OR s.tried_at > now() - make_interval(secs => $5)))
               UNION
               SELECT o.id
                 FROM members m
                 JOIN polar_jobs.organizations o ON o.id = m.organization_id
                WHERE (NOT m.is_unknown
                    OR EXISTS (SELECT 1 FROM polar_jobs.out_of_step s
                                WHERE s.organization_id = o.id AND s.subject = 'member/' || m.user_id))
                  AND o.deleted_at IS NULL
                  AND NOT polar_jobs.has_unfinished_job($4 || m.organization_id || '/' || m.user_id)
                  AND NOT polar_jobs.has_unfinished_job($3 || o.id)
                  AND NOT EXISTS (
                      SELECT 1 FROM polar_jobs.out_of_step s
                       WHERE s.organization_id = o.id
                         AND (s.subject = 'member/' || m.user_id
                                  AND (s.refused_version = m.version OR s.tried_at > now() - make_interval(secs => $5))
                           OR s.subject = 'customer'
                                  AND s.refused_version = polar_jobs.customer_version(o.id)))) waiting
            WHERE $1::uuid IS NULL OR id > $1
            ORDER BY id LIMIT $2"#,
        after.map(|organization| organization.0),
        limit,
        keys.customers,
        keys.members,
        rest.as_secs_f64(),
    )
    .fetch_all(pool)
    .await?;
    Ok(ids.into_iter().map(OrganizationId).collect())
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

/// Takes the note back, in the transaction that enqueues the jobs that ask.
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
