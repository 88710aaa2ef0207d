//! Organizations as the application wants them.

use sqlx::PgConnection;

use crate::contract::Fees;
use crate::types::OrganizationId;

/// Where an organization stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not announced yet: what is known early waits for it.
    Unknown,
    /// It lives.
    Living,
    /// It was created again, and the customer of its earlier life, under the same external id, is still to be
    /// deleted.
    Recreated,
    /// It was deleted.
    Deleted,
}

/// A new organization, or one that starts anew.
#[derive(Clone, Copy, Debug)]
pub struct NewOrganization<'a> {
    /// Which.
    pub id: OrganizationId,
    /// Its display name.
    pub name: &'a str,
    /// Its short name.
    pub slug: &'a str,
    /// Its status in the application.
    pub status: &'a str,
    /// Fees of its own.
    pub fees: Option<Fees>,
}

/// The fields of an organization that a change gives; `None` = as it is.
#[derive(Clone, Copy, Debug)]
pub struct OrganizationUpdate<'a> {
    /// Which.
    pub id: OrganizationId,
    /// Its display name.
    pub name: Option<&'a str>,
    /// Its short name.
    pub slug: Option<&'a str>,
    /// Its status in the application.
    pub status: Option<&'a str>,
}

/// Where the organization stands; holds its row until the transaction ends.
///
/// # Errors
/// If the database fails.
pub async fn standing(
    connection: &mut PgConnection,
    organization: OrganizationId,
) -> Result<Standing, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT deleted_at IS NOT NULL AS "deleted!", erasure_event IS NOT NULL AS "erasing!"
             FROM polar_jobs.organizations WHERE id = $1 FOR UPDATE"#,
        organization.0
    )
    .fetch_optional(connection)
    .await?;
    Ok(match row {
        None => Standing::Unknown,
        Some(row) if row.deleted => Standing::Deleted,
        Some(row) if row.erasing => Standing::Recreated,
        Some(_) => Standing::Living,
    })
}

/// Writes a created organization. After a deletion it starts anew: nothing of its earlier life
/// stays, only the order to erase the earlier customer. `false` = a newer change came before.
///
/// # Errors
/// If the database fails.
pub async fn create(
    connection: &mut PgConnection,
    new: &NewOrganization<'_>,
    event: i64,
) -> Result<bool, sqlx::Error> {
    let written = sqlx::query!(
        "INSERT INTO polar_jobs.organizations AS o
                (id, name, slug, status, own_fee_basis_points, own_fee_fixed, own_subscription_fee_basis_points, event_id,
                 name_event, slug_event, status_event)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $8, $8)
         ON CONFLICT (id) DO UPDATE
            SET name = excluded.name, slug = excluded.slug, status = excluded.status,
                own_fee_basis_points = excluded.own_fee_basis_points,
                own_fee_fixed = excluded.own_fee_fixed,
                own_subscription_fee_basis_points = excluded.own_subscription_fee_basis_points,
                event_id = excluded.event_id, name_event = excluded.name_event, slug_event = excluded.slug_event,
                status_event = excluded.status_event, deleted_at = NULL, erased_at = NULL,
                created_at = CASE WHEN o.deleted_at IS NULL THEN o.created_at ELSE now() END,
                support_tier = CASE WHEN o.deleted_at IS NULL THEN o.support_tier END,
                plain_tier_external_id = CASE WHEN o.deleted_at IS NULL THEN o.plain_tier_external_id END,
                preview_access = o.deleted_at IS NULL AND o.preview_access,
                sso_enabled = o.deleted_at IS NULL AND o.sso_enabled,
                polar_customer_id = CASE WHEN o.deleted_at IS NULL THEN o.polar_customer_id END
          WHERE o.event_id < excluded.event_id",
        new.id.0,
        new.name,
        new.slug,
        new.status,
        new.fees.map(|fees| fees.basis_points),
        new.fees.map(|fees| fees.fixed),
        new.fees.map(|fees| fees.subscription_basis_points),
        event,
    )
    .execute(&mut *connection)
    .await?;
    if written.rows_affected() == 0 {
        return Ok(false);
    }
    // Deliveries about its new life are kept with their bodies; those about its former customer are not.
    sqlx::query!(
        "DELETE FROM polar_jobs.erased_subjects WHERE id = $1",
        new.id.0
    )
    .execute(connection)
    .await?;
    Ok(true)
}

/// Changes the fields that are given, each unless a newer change wrote it: one that failed and is tried again later
/// still says what no other did. `false` = the organization does not live, or nothing was left to write.
///
/// # Errors
/// If the database fails.
pub async fn update(
    connection: &mut PgConnection,
    update: &OrganizationUpdate<'_>,
    event: i64,
) -> Result<bool, sqlx::Error> {
    let written = sqlx::query!(
        "WITH support_desk AS (
             UPDATE polar_jobs.support_desk_tenants SET synced_event = polar_jobs.confirmed_before(synced_event, $5)
              WHERE organization_id = $1)
         UPDATE polar_jobs.organizations
            SET name = CASE WHEN name_event < $5 THEN coalesce($2, name) ELSE name END,
                name_event = CASE WHEN $2 IS NULL THEN name_event ELSE greatest(name_event, $5) END,
                slug = CASE WHEN slug_event < $5 THEN coalesce($3, slug) ELSE slug END,
                slug_event = CASE WHEN $3 IS NULL THEN slug_event ELSE greatest(slug_event, $5) END,
                status = CASE WHEN status_event < $5 THEN coalesce($4, status) ELSE status END,
                status_event = CASE WHEN $4 IS NULL THEN status_event ELSE greatest(status_event, $5) END,
                event_id = greatest(event_id, $5), synced_event = polar_jobs.confirmed_before(synced_event, $5)
          WHERE id = $1 AND deleted_at IS NULL
            AND ($2::text IS NOT NULL AND name_event < $5 OR $3::text IS NOT NULL AND slug_event < $5
                 OR $4::text IS NOT NULL AND status_event < $5
                 OR coalesce($2, $3, $4) IS NULL AND event_id < $5)",
        update.id.0,
        update.name,
        update.slug,
        update.status,
        event,
    )
    .execute(connection)
    .await?;
    Ok(written.rows_affected() == 1)
}

/// Marks an organization and all its members as gone, and forgets what it held. `false` = it does
/// not live, or a newer change came before.
///
/// # Errors
/// If the database fails.
pub async fn delete(
    connection: &mut PgConnection,
    organization: OrganizationId,
    event: i64,
) -> Result<bool, sqlx::Error> {
    let written = sqlx::query!(
        "UPDATE polar_jobs.organizations
            SET deleted_at = now(), event_id = $2, erasure_event = $2, granted_fee_basis_points = NULL,
                granted_fee_fixed = NULL, granted_subscription_fee_basis_points = NULL,
                -- What Polar was asked before says nothing about a new life.
                benefits_asked = nextval('polar_jobs.asking'), subscription_asked = nextval('polar_jobs.asking')
          WHERE id = $1 AND deleted_at IS NULL AND event_id < $2",
        organization.0,
        event,
    )
    .execute(&mut *connection)
    .await?;
    if written.rows_affected() == 0 {
        return Ok(false);
    }
    // Postgres runs these from the last to the first: the notes before the memberships, as everywhere.
    sqlx::query!(
        "WITH left_behind AS (
             UPDATE polar_jobs.memberships SET removed_at = coalesce(removed_at, now()), event_id = $2
              WHERE organization_id = $1 AND event_id < $2),
         plan AS (DELETE FROM polar_jobs.subscriptions WHERE organization_id = $1),
         noted AS (DELETE FROM polar_jobs.out_of_step WHERE organization_id = $1)
         DELETE FROM polar_jobs.held_benefits WHERE organization_id = $1",
        organization.0,
        event,
    )
    .execute(connection)
    .await?;
    Ok(true)
}
