//! What the application and the grants want at the support desk, and what Plain was seen to hold.

use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::contract::NewJob;
use crate::types::{Email, OrganizationId, UserId};

/// An organization as Plain should hold it.
#[derive(Clone, Debug)]
pub struct WantedTenant {
    /// Its display name.
    pub name: String,
    /// Whether it was deleted.
    pub deleted: bool,
    /// The change that this reading is of.
    pub event_id: i64,
    /// The tier that its grants give, by Plain's external id; `None` = none of its own.
    pub tier: Option<String>,
    /// Tiers that it may have at Plain because we gave them.
    pub given_tiers: Vec<String>,
}

/// A person of an organization as Plain should hold them.
#[derive(Clone, Debug)]
pub struct WantedMember {
    /// Whether the person should not belong to it.
    pub removed: bool,
    /// The address; `None` where the application never gave a usable one.
    pub email: Option<Email>,
    /// The newest change that this reading is of.
    pub version: i64,
    /// The newest change of the person that a run for this organization brings, or brought before the
    /// person left. Where it is not the newest of all, it may have overwritten what other runs brought since.
    pub person_event: i64,
    /// Whether Plain was seen to hold the organization.
    pub tenant_is_known: bool,
}

/// What is wanted of an organization; `None` = not created yet.
///
/// # Errors
/// If the database fails.
pub async fn tenant(
    pool: &PgPool,
    organization: OrganizationId,
) -> Result<Option<WantedTenant>, sqlx::Error> {
    sqlx::query_as!(
        WantedTenant,
        r#"SELECT o.name, o.deleted_at IS NOT NULL AS "deleted!", o.event_id,
                  CASE WHEN o.deleted_at IS NULL THEN o.plain_tier_external_id END AS tier,
                  coalesce(t.given_tiers, '{}') AS "given_tiers!"
             FROM polar_jobs.organizations o
             LEFT JOIN polar_jobs.support_desk_tenants t ON t.organization_id = o.id
            WHERE o.id = $1"#,
        organization.0,
    )
    .fetch_optional(pool)
    .await
}

/// What is wanted of a person; `None` = never belonged to an organization that was created.
///
/// # Errors
/// If the database fails.
pub async fn member(
    pool: &PgPool,
    organization: OrganizationId,
    user: UserId,
) -> Result<Option<WantedMember>, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT m.removed_at IS NOT NULL AS "removed!", p.email,
                  polar_jobs.member_version(m.event_id, m.removed_at, p.changed_event) AS "version!",
                  CASE WHEN m.removed_at IS NULL THEN p.changed_event ELSE coalesce(s.synced_event, 0) END AS "person_event!",
                  t.synced_event IS NOT NULL AS "tenant_is_known!"
             FROM polar_jobs.organizations o
             JOIN polar_jobs.memberships m ON m.organization_id = o.id
             JOIN polar_jobs.people p USING (user_id)
             LEFT JOIN polar_jobs.support_desk_tenants t ON t.organization_id = o.id
             LEFT JOIN polar_jobs.support_desk_members s ON s.organization_id = o.id AND s.user_id = m.user_id
            WHERE o.id = $1 AND m.user_id = $2"#,
        organization.0,
        user.0,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| WantedMember {
        removed: row.removed,
        email: row.email.map(Email::from_mirror),
        version: row.version,
        person_event: row.person_event,
        tenant_is_known: row.tenant_is_known,
    }))
}

/// Notes that the organization may have this tier at Plain from now on because of us. Written before
/// Plain is asked: after a lost answer it is still known whose tier that is.
///
/// # Errors
/// If the database fails.
pub async fn giving_tier(
    pool: &PgPool,
    organization: OrganizationId,
    tier: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO polar_jobs.support_desk_tenants AS t (organization_id, given_tiers) VALUES ($1, ARRAY[$2::text])
         ON CONFLICT (organization_id) DO UPDATE SET given_tiers = array_append(t.given_tiers, $2)
          WHERE NOT $2 = ANY (t.given_tiers)",
        organization.0,
        tier,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Plain holds the organization as it was wanted. Returns the people whom it does not.
///
/// # Errors
/// If the database fails.
pub async fn tenant_synced(
    connection: &mut PgConnection,
    organization: OrganizationId,
    wanted: &WantedTenant,
) -> Result<Vec<UserId>, sqlx::Error> {
    sqlx::query!(
        "INSERT INTO polar_jobs.support_desk_tenants (organization_id, synced_event, synced_tier, given_tiers)
         VALUES ($1, $2, $3, array_remove(ARRAY[$3], NULL))
         ON CONFLICT (organization_id) DO UPDATE
            SET synced_event = excluded.synced_event, synced_tier = excluded.synced_tier,
                given_tiers = excluded.given_tiers",
        organization.0,
        wanted.event_id,
        wanted.tier,
    )
    .execute(&mut *connection)
    .await?;
    unsynced_members(connection, organization).await
}

/// Plain holds the organization, with whatever tier. Returns the people whom it does not.
///
/// # Errors
/// If the database fails.
pub async fn tenant_known(
    connection: &mut PgConnection,
    organization: OrganizationId,
) -> Result<Vec<UserId>, sqlx::Error> {
    sqlx::query!(
        // Known, and not in step with any change: it is looked at again.
        "INSERT INTO polar_jobs.support_desk_tenants (organization_id, synced_event) VALUES ($1, 0)
         ON CONFLICT (organization_id) DO UPDATE SET synced_event = 0",
        organization.0,
    )
    .execute(&mut *connection)
    .await?;
    unsynced_members(connection, organization).await
}

async fn unsynced_members(
    connection: &mut PgConnection,
    organization: OrganizationId,
) -> Result<Vec<UserId>, sqlx::Error> {
    let ids = sqlx::query_scalar!(
        r#"SELECT user_id AS "id!" FROM polar_jobs.support_desk_unsynced_members($1) user_id ORDER BY 1"#,
        organization.0,
    )
    .fetch_all(connection)
    .await?;
    Ok(ids.into_iter().map(UserId).collect())
}

/// Plain was seen not to hold the organization any more, nor that anybody belongs to it. Who gave which tier
/// stays known: it may have been an answer about the person.
///
/// # Errors
/// If the database fails.
pub async fn tenant_gone(
    connection: &mut PgConnection,
    organization: OrganizationId,
) -> Result<(), sqlx::Error> {
    // Jobs of several people may find it out at once; the lock on the organization's row puts them in order.
    sqlx::query!(
        "UPDATE polar_jobs.support_desk_tenants SET synced_event = NULL, synced_tier = NULL WHERE organization_id = $1",
        organization.0,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "DELETE FROM polar_jobs.support_desk_members WHERE organization_id = $1",
        organization.0,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Plain holds the person as it was wanted.
///
/// # Errors
/// If the database fails.
pub async fn member_synced(
    connection: &mut PgConnection,
    organization: OrganizationId,
    user: UserId,
    version: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO polar_jobs.support_desk_members (organization_id, user_id, synced_event) VALUES ($1, $2, $3)
         ON CONFLICT (organization_id, user_id) DO UPDATE SET synced_event = excluded.synced_event",
        organization.0,
        user.0,
        version,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The living organizations that a person belongs to, if the person changed after `event`. Plain has one
/// customer for all of them: what a slow run for one organization wrote may be older than what was
/// brought for another.
///
/// # Errors
/// If the database fails.
pub async fn organizations_if_changed(
    connection: &mut PgConnection,
    user: UserId,
    event: i64,
) -> Result<Vec<OrganizationId>, sqlx::Error> {
    let ids = sqlx::query_scalar!(
        "SELECT m.organization_id
           FROM polar_jobs.people p
           JOIN polar_jobs.memberships m USING (user_id)
           JOIN polar_jobs.organizations o ON o.id = m.organization_id
          WHERE p.user_id = $1 AND p.changed_event > $2 AND m.removed_at IS NULL AND o.deleted_at IS NULL
          ORDER BY m.organization_id",
        user.0,
        event,
    )
    .fetch_all(connection)
    .await?;
    Ok(ids.into_iter().map(OrganizationId).collect())
}

/// Whether the organization must be synced for its tier: Plain was seen to hold another one than its
/// grants give now, or a job with the ordering key `key` is under way, which may have read the tier
/// before it was written. What such a job confirms, and its end, are one commit: it is either seen
/// here as unfinished or in what Plain was seen to hold.
///
/// # Errors
/// If the database fails.
pub async fn tier_needs_sync(
    connection: &mut PgConnection,
    organization: OrganizationId,
    key: Option<&str>,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (
               SELECT 1 FROM polar_jobs.organizations o
                 LEFT JOIN polar_jobs.support_desk_tenants t ON t.organization_id = o.id
                WHERE o.id = $1 AND (t.synced_tier IS DISTINCT FROM o.plain_tier_external_id
                                     OR polar_jobs.has_unfinished_job($2))) AS "needed!""#,
        organization.0,
        key,
    )
    .fetch_one(connection)
    .await
}

/// Starts a job in the transaction of one that goes on to fail, and so has no followers.
///
/// # Errors
/// If the database fails.
pub async fn start(connection: &mut PgConnection, job: &NewJob) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "SELECT FROM polar_jobs.insert_jobs(
                    ARRAY[$1::text], ARRAY[$2::jsonb::json], ARRAY[$3::text], ARRAY[$4::timestamptz], ARRAY[$5::smallint],
                    ARRAY[$6::text], ARRAY[$7::text], ARRAY[$8::int], ARRAY[$9::bigint])",
        job.kind,
        job.payload,
        job.queue.name(),
        job.run_at,
        job.priority,
        job.unique_key.as_deref(),
        job.ordering_key.as_deref(),
        i32::from(job.max_attempts),
        job.event,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// At most `limit` organizations after `after`, in the order of their ids, of which Plain was not seen
/// to hold something as it is wanted, and for which no job is under way whose key begins with `keys`.
///
/// Mostly nothing differs, so what differs is looked for first, in one pass; and only of that, in the order of the ids
/// until there are enough, it is asked whether a job works on it (measured with 200 000 organizations and 600 000 members:
/// 0.9 s, whether all is in step or nothing; asked of everybody in step it was 4.5 s).
///
/// # Errors
/// If the database fails.
pub async fn unsynced(
    pool: &PgPool,
    after: Option<OrganizationId>,
    except: Option<Uuid>,
    limit: i64,
    keys: &str,
) -> Result<Vec<OrganizationId>, sqlx::Error> {
    let ids = sqlx::query_scalar!(
        r#"SELECT DISTINCT id AS "id!" FROM (
               SELECT o.id, NULL::uuid AS user_id
                 FROM polar_jobs.organizations o
                 LEFT JOIN polar_jobs.support_desk_tenants t ON t.organization_id = o.id
                WHERE ($1::uuid IS NULL OR o.id > $1) AND o.id IS DISTINCT FROM $2
                  AND CASE WHEN o.deleted_at IS NULL
                           THEN t.synced_event IS DISTINCT FROM o.event_id OR t.synced_tier IS DISTINCT FROM o.plain_tier_external_id
                           ELSE t.synced_event <> o.event_id END
               UNION ALL
               SELECT o.id, user_id
                 FROM polar_jobs.organizations o, polar_jobs.support_desk_unsynced_members(o.id) user_id
                WHERE ($1::uuid IS NULL OR o.id > $1) AND o.id IS DISTINCT FROM $2
                -- The offset keeps the questions about jobs outside.
                ORDER BY 1 OFFSET 0) differing
            WHERE NOT polar_jobs.has_unfinished_job($4 || id)
              AND (user_id IS NULL OR NOT polar_jobs.has_unfinished_job($4 || id || '/' || user_id))
            ORDER BY id LIMIT $3"#,
        after.map(|organization| organization.0),
        except,
        limit,
        keys,
    )
    .fetch_all(pool)
    .await?;
    Ok(ids.into_iter().map(OrganizationId).collect())
}
