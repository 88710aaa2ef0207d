//! People, and who belongs to which organization.
//!
//! At most one active owner per organization stands in the table, kept by a unique index; the
//! owner before becomes an admin in the same transaction.

use sqlx::PgConnection;

use crate::types::{Email, OrganizationId, Role, UserId};

/// Writes what a change says of a person. What it leaves out stays, and so does what a newer change wrote. `true` =
/// somebody known was changed. Holds the person's row until the transaction ends: an erasure either sees the
/// membership that follows, or comes before both.
///
/// # Errors
/// If the database fails.
pub async fn upsert_person(
    connection: &mut PgConnection,
    user: UserId,
    email: Option<&Email>,
    name: Option<&str>,
    event: i64,
) -> Result<bool, sqlx::Error> {
    let email = email.map(Email::as_str);
    let is_new = insert_person(&mut *connection, user).await?;
    lock_person(&mut *connection, user).await?;
    let is_changed = change_person(&mut *connection, user, email, name, event).await?;
    if is_changed {
        unconfirm_memberships(&mut *connection, user, event).await?;
    }
    keep_events(connection, user, email.is_some(), name.is_some(), event).await?;
    Ok(is_changed && !is_new)
}

/// Returns whether the person was not known.
async fn insert_person(connection: &mut PgConnection, user: UserId) -> Result<bool, sqlx::Error> {
    let inserted = sqlx::query!(
        "INSERT INTO polar_jobs.people (user_id) VALUES ($1) ON CONFLICT DO NOTHING",
        user.0
    )
    .execute(connection)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

async fn lock_person(connection: &mut PgConnection, user: UserId) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "SELECT 1 AS one FROM polar_jobs.people WHERE user_id = $1 FOR UPDATE",
        user.0
    )
    .fetch_one(connection)
    .await
    .map(drop)
}

/// Writes the address and the name that are given, each unless a newer change wrote it. Returns whether that
/// made a difference.
async fn change_person(
    connection: &mut PgConnection,
    user: UserId,
    email: Option<&str>,
    name: Option<&str>,
    event: i64,
) -> Result<bool, sqlx::Error> {
    let changed = sqlx::query!(
        "UPDATE polar_jobs.people
            SET changed_event = $4, undeliverable_at = CASE WHEN $2::text IS NULL OR email = $2 THEN undeliverable_at END,
                email = CASE WHEN email_event < $4 THEN coalesce($2, email) ELSE email END,
                name = CASE WHEN name_event < $4 THEN coalesce($3::text, name) ELSE name END
          WHERE user_id = $1
            AND ((email_event < $4 AND $2 IS DISTINCT FROM email AND $2 IS NOT NULL)
              OR (name_event < $4 AND $3 IS DISTINCT FROM name AND $3 IS NOT NULL))",
        user.0,
        email,
        name,
        event,
    )
    .execute(connection)
    .await?;
    Ok(changed.rows_affected() == 1)
}

/// Marks what was confirmed for a newer change as unconfirmed: this one came late, and was not part of it.
async fn unconfirm_memberships(
    connection: &mut PgConnection,
    user: UserId,
    event: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "WITH support_desk AS (
                 UPDATE polar_jobs.support_desk_members s SET synced_event = 0
                   FROM polar_jobs.memberships m
                  WHERE m.user_id = $1 AND m.removed_at IS NULL AND s.organization_id = m.organization_id
                    AND s.user_id = m.user_id AND s.synced_event >= $2)
             UPDATE polar_jobs.memberships SET synced_event = 0
              WHERE user_id = $1 AND removed_at IS NULL AND synced_event >= $2",
        user.0,
        event,
    )
    .execute(connection)
    .await
    .map(drop)
}

/// Remembers which change the address and the name are from.
async fn keep_events(
    connection: &mut PgConnection,
    user: UserId,
    has_email: bool,
    has_name: bool,
    event: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE polar_jobs.people
            SET email_event = CASE WHEN $2 THEN greatest(email_event, $4) ELSE email_event END,
                name_event = CASE WHEN $3 THEN greatest(name_event, $4) ELSE name_event END
          WHERE user_id = $1",
        user.0,
        has_email,
        has_name,
        event,
    )
    .execute(connection)
    .await
    .map(drop)
}

/// Gives an active member another role. `false` = not an active member, or a newer change came
/// before.
///
/// # Errors
/// If the database fails.
pub async fn change_role(
    connection: &mut PgConnection,
    organization: OrganizationId,
    user: UserId,
    role: Role,
    event: i64,
) -> Result<bool, sqlx::Error> {
    let active = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT 1 FROM polar_jobs.memberships
                           WHERE organization_id = $1 AND user_id = $2 AND removed_at IS NULL) AS "active!""#,
        organization.0,
        user.0,
    )
    .fetch_one(&mut *connection)
    .await?;
    if !active {
        return Ok(false);
    }
    upsert_membership(connection, organization, user, role, event).await
}

/// Makes a person the owner, also one who was not a member until now. `false` = a newer change
/// came before.
///
/// # Errors
/// If the database fails.
pub async fn make_owner(
    connection: &mut PgConnection,
    organization: OrganizationId,
    user: UserId,
    event: i64,
) -> Result<bool, sqlx::Error> {
    upsert_person(connection, user, None, None, event).await?;
    upsert_membership(connection, organization, user, Role::Owner, event).await
}

/// Writes that a person, written already, belongs to an organization. `false` = a newer change came
/// before.
///
/// # Errors
/// If the database fails.
pub async fn upsert_membership(
    connection: &mut PgConnection,
    organization: OrganizationId,
    user: UserId,
    role: Role,
    event: i64,
) -> Result<bool, sqlx::Error> {
    let mut role = role;
    if role == Role::Owner && !displace_owner(connection, organization, user, event).await? {
        // A replayed change: somebody became the owner later.
        role = Role::Admin;
    }
    let written = sqlx::query!(
        "INSERT INTO polar_jobs.memberships AS m (organization_id, user_id, role, event_id)
         VALUES ($1, $2, $3, $4)
         ON CONFLICT (organization_id, user_id) DO UPDATE
            SET role = excluded.role, removed_at = NULL, event_id = excluded.event_id,
                synced_event = polar_jobs.confirmed_before(m.synced_event, excluded.event_id)
          WHERE m.event_id < excluded.event_id",
        organization.0,
        user.0,
        role.as_str(),
        event,
    )
    .execute(connection)
    .await?;
    Ok(written.rows_affected() == 1)
}

/// Makes whoever else owns the organization an admin, if `user` will really take over. `false` =
/// another owner stays, because a newer change says so.
async fn displace_owner(
    connection: &mut PgConnection,
    organization: OrganizationId,
    user: UserId,
    event: i64,
) -> Result<bool, sqlx::Error> {
    sqlx::query!(
        "UPDATE polar_jobs.memberships SET role = 'admin', event_id = $3,
                synced_event = polar_jobs.confirmed_before(synced_event, $3)
          WHERE organization_id = $1 AND user_id <> $2 AND role = 'owner' AND removed_at IS NULL AND event_id < $3
            AND NOT EXISTS (SELECT 1 FROM polar_jobs.memberships newer
                             WHERE newer.organization_id = $1 AND newer.user_id = $2 AND newer.event_id >= $3)",
        organization.0,
        user.0,
        event,
    )
    .execute(&mut *connection)
    .await?;
    let others = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT 1 FROM polar_jobs.memberships
                           WHERE organization_id = $1 AND user_id <> $2 AND role = 'owner' AND removed_at IS NULL) AS "others!""#,
        organization.0,
        user.0,
    )
    .fetch_one(connection)
    .await?;
    Ok(!others)
}

/// Writes that a person left. `false` = not an active member, or a newer change came before.
///
/// # Errors
/// If the database fails.
pub async fn leave(
    connection: &mut PgConnection,
    organization: OrganizationId,
    user: UserId,
    event: i64,
) -> Result<bool, sqlx::Error> {
    let written = sqlx::query!(
        "UPDATE polar_jobs.memberships SET removed_at = now(), event_id = $3,
                synced_event = polar_jobs.confirmed_before(synced_event, $3)
          WHERE organization_id = $1 AND user_id = $2 AND removed_at IS NULL AND event_id < $3",
        organization.0,
        user.0,
        event,
    )
    .execute(connection)
    .await?;
    Ok(written.rows_affected() == 1)
}

/// The living organizations that a person belongs to.
///
/// # Errors
/// If the database fails.
pub async fn organizations_of(
    connection: &mut PgConnection,
    user: UserId,
) -> Result<Vec<OrganizationId>, sqlx::Error> {
    let ids = sqlx::query_scalar!(
        "SELECT m.organization_id
           FROM polar_jobs.memberships m JOIN polar_jobs.organizations o ON o.id = m.organization_id
          WHERE m.user_id = $1 AND m.removed_at IS NULL AND o.deleted_at IS NULL
          ORDER BY m.organization_id",
        user.0,
    )
    .fetch_all(connection)
    .await?;
    Ok(ids.into_iter().map(OrganizationId).collect())
}

/// Whether a living organization has this owner and, as far as is known, no customer at Polar.
///
/// # Errors
/// If the database fails.
pub async fn owns_without_customer(
    connection: &mut PgConnection,
    organization: OrganizationId,
    user: UserId,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (
               SELECT 1 FROM polar_jobs.memberships m JOIN polar_jobs.organizations o ON o.id = m.organization_id
                WHERE o.id = $1 AND o.deleted_at IS NULL AND o.polar_customer_id IS NULL
                  AND m.user_id = $2 AND m.role = 'owner' AND m.removed_at IS NULL) AS "without!""#,
        organization.0,
        user.0,
    )
    .fetch_one(connection)
    .await
}
