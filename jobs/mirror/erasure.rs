//! Removes names and addresses of a deleted organization's people, and the bodies of what was delivered
//! about it. Ids, amounts and outcomes stay.
//!
//! Tables first, in one transaction that holds the organization and its people, so that nobody joins a
//! living organization meanwhile and loses an address there. Then what came in, page by page: that may
//! take a while, may be repeated, and is: [`sweep`] runs again for two days, so that neither a process
//! that stopped in between nor a delivery that was being stored leaves anything behind.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::mails;
use crate::types::{OrganizationId, UserId};

/// Ids of events looked at in one statement.
const PAGE: i64 = 5000;

/// What became of an order to erase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Erasure {
    /// Nobody announced it.
    Unknown,
    /// It lives; nothing was done.
    Living,
    /// Done; so many people lost name and address.
    Erased {
        /// People who belong to no other living organization.
        people: u64,
    },
}

/// Erases what the tables hold of a deleted organization and of those of its people who belong to no
/// living one. What came in about them is left to [`sweep`].
///
/// # Errors
/// If the database fails.
pub async fn erase(
    connection: &mut PgConnection,
    organization: OrganizationId,
) -> Result<Erasure, sqlx::Error> {
    let deleted = sqlx::query_scalar!(
        r#"SELECT deleted_at IS NOT NULL AS "deleted!" FROM polar_jobs.organizations WHERE id = $1 FOR UPDATE"#,
        organization.0,
    )
    .fetch_optional(&mut *connection)
    .await?;
    match deleted {
        None => return Ok(Erasure::Unknown),
        Some(false) => return Ok(Erasure::Living),
        Some(true) => {}
    }
    let members = sqlx::query_scalar!(
        "SELECT user_id FROM polar_jobs.memberships WHERE organization_id = $1",
        organization.0,
    )
    .fetch_all(&mut *connection)
    .await?;
    let people = erase_people(connection, &members).await?;
    sqlx::query!(
        "WITH subjects AS (
             INSERT INTO polar_jobs.erased_subjects (id)
             SELECT $1 UNION SELECT c.polar_customer_id FROM polar_jobs.polar_customers c WHERE c.organization_id = $1
             ON CONFLICT DO NOTHING),
         found AS (
             UPDATE polar_jobs.differences SET wanted = NULL, found = NULL, repaired_at = coalesce(repaired_at, now())
              WHERE organization_id = $1),
         -- Answers of the organizations API name whoever pays.
         answers AS (DELETE FROM polar_jobs.idempotent_requests WHERE organization_id = $1)
         UPDATE polar_jobs.organizations SET name = '', slug = '', erased_at = coalesce(erased_at, now()) WHERE id = $1",
        organization.0,
    )
    .execute(&mut *connection)
    .await?;
    mails::erase(connection, organization, None).await?;
    Ok(Erasure::Erased { people })
}

/// Takes name and address from those of these people who belong to no living organization, wherever they stand. Returns
/// how many had one.
///
/// # Errors
/// If the database fails.
pub(super) async fn erase_people(
    connection: &mut PgConnection,
    people: &[Uuid],
) -> Result<u64, sqlx::Error> {
    // Whoever announces a person holds that person's row first. So who joins another organization now
    // is seen below, or sees the row without its address and writes it again.
    sqlx::query!(
        "SELECT 1 AS one FROM polar_jobs.people WHERE user_id = ANY ($1) ORDER BY user_id FOR UPDATE",
        people,
    )
    .fetch_all(&mut *connection)
    .await?;
    let erased = sqlx::query!(
        "UPDATE polar_jobs.people p SET email = NULL, name = NULL, undeliverable_at = NULL
           FROM polar_jobs.unattached_people before
          WHERE p.user_id = before.user_id AND before.user_id = ANY ($1)
            AND (before.email IS NOT NULL OR before.name IS NOT NULL)
         RETURNING p.user_id, before.email",
        people,
    )
    .fetch_all(&mut *connection)
    .await?;
    let (users, addresses): (Vec<Uuid>, Vec<Option<String>>) = erased
        .into_iter()
        .map(|person| (person.user_id, person.email))
        .unzip();
    erase_of_people(connection, &users, &addresses).await?;
    Ok(u64::try_from(users.len()).unwrap_or(u64::MAX))
}

/// Removes what organizations keep of these people and of the addresses that they had; organizations that live on are
/// erased nowhere else. Differences stay open; mails that wait are skipped, and the texts of
/// mails stay, because they are about the organization. An address that somebody else of the organization has stays.
async fn erase_of_people(
    connection: &mut PgConnection,
    people: &[Uuid],
    addresses: &[Option<String>],
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE polar_jobs.differences d SET wanted = NULL, found = NULL
           FROM polar_jobs.memberships m
          WHERE m.user_id = ANY ($1) AND d.organization_id = m.organization_id AND d.subject = 'member/' || m.user_id
            AND (d.wanted IS NOT NULL OR d.found IS NOT NULL)",
        people,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "UPDATE polar_jobs.mails sent
            SET recipient = NULL,
                state = CASE WHEN sent.state = 'waiting' THEN 'skipped' ELSE sent.state END,
                error = CASE WHEN sent.state = 'waiting' THEN 'the recipient was erased' ELSE sent.error END
           FROM unnest($1::uuid[], $2::text[]) AS erased (user_id, email)
           JOIN polar_jobs.memberships m USING (user_id)
          WHERE sent.organization_id = m.organization_id AND lower(sent.recipient) = lower(erased.email)
            AND NOT EXISTS (SELECT FROM polar_jobs.members o
                             WHERE o.organization_id = m.organization_id AND o.removed_at IS NULL
                               AND lower(o.email) = lower(erased.email))",
        people,
        addresses as &[Option<String>],
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Returns the organizations that are to be erased:
///
/// - those that were deleted before `before` and are not erased yet;
/// - those erased since `again`, which are looked at once more;
/// - erased ones with a person who has a name or an address and belongs to no living organization: the person left the
///   last one since, or was named again.
///
/// # Errors
/// If the database fails.
pub async fn due(
    pool: &PgPool,
    before: DateTime<Utc>,
    again: DateTime<Utc>,
) -> Result<Vec<OrganizationId>, sqlx::Error> {
    let ids = sqlx::query_scalar!(
        r#"SELECT id AS "id!" FROM polar_jobs.organizations
            WHERE deleted_at IS NOT NULL AND (erased_at IS NULL AND deleted_at < $1 OR erased_at > $2)
            UNION
           SELECT o.id
             FROM polar_jobs.unattached_people p
             JOIN polar_jobs.memberships m USING (user_id)
             JOIN polar_jobs.organizations o ON o.id = m.organization_id
            WHERE (p.email IS NOT NULL OR p.name IS NOT NULL) AND o.erased_at IS NOT NULL
            ORDER BY 1"#,
        before,
        again,
    )
    .fetch_all(pool)
    .await?;
    Ok(ids.into_iter().map(OrganizationId).collect())
}

/// Removes what came in about erased organizations: the bodies of all of them, and names and addresses in
/// the changes about `organizations`, their people and `others`. Each page is a transaction of its own.
///
/// # Errors
/// If the database fails; what was done until then stays done.
pub async fn sweep(
    pool: &PgPool,
    organizations: &[OrganizationId],
    others: &[UserId],
) -> Result<(), sqlx::Error> {
    let ids: Vec<Uuid> = organizations.iter().map(|id| id.0).collect();
    let mut people = sqlx::query_scalar!(
        r#"SELECT DISTINCT m.user_id::text AS "user!"
             FROM polar_jobs.memberships m JOIN polar_jobs.unattached_people USING (user_id)
            WHERE m.organization_id = ANY ($1)"#,
        &ids,
    )
    .fetch_all(pool)
    .await?;
    people.extend(others.iter().map(ToString::to_string));
    let names: Vec<String> = organizations.iter().map(ToString::to_string).collect();
    let range = sqlx::query!(
        r#"SELECT coalesce(min(id), 1) - 1 AS "above!", coalesce(max(id), 0) AS "last!" FROM polar_jobs.stored_events"#
    )
    .fetch_one(pool)
    .await?;
    let mut above = range.above;
    while above < range.last {
        let upto = above + PAGE;
        sqlx::query!(
            "SELECT polar_jobs.erase_bodies($1, $2), polar_jobs.erase_changes($1, $2, $3, $4)",
            above,
            upto,
            &names,
            &people,
        )
        .fetch_one(pool)
        .await?;
        above = upto;
    }
    Ok(())
}
