//! What Polar was seen to hold. A sync confirms what it read at its start, so that a change which
//! came meanwhile still counts as unconfirmed.

use sqlx::{PgConnection, PgPool};

use super::out_of_step::{self, Subject};
use super::startup_programs;
use super::wanted::WantedMember;
use crate::types::{OrganizationId, UserId};

/// Remembers whose customer this is; kept after a deletion: what Polar delivers
/// afterwards may name the customer by this id only.
///
/// # Errors
/// If the database fails.
pub async fn remember_customer(
    connection: &mut PgConnection,
    organization: OrganizationId,
    customer: polar::CustomerId,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO polar_jobs.polar_customers (polar_customer_id, organization_id) VALUES ($1, $2)
         ON CONFLICT (polar_customer_id) DO NOTHING",
        customer.0,
        organization.0,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes that Polar no longer has the customer with this id. Returns the living organization that has it, which is out
/// of step with Polar from now on.
///
/// # Errors
/// If the database fails.
pub async fn customer_lost(
    connection: &mut PgConnection,
    customer: polar::CustomerId,
) -> Result<Option<OrganizationId>, sqlx::Error> {
    let organization = sqlx::query_scalar!(
        "UPDATE polar_jobs.organizations SET synced_event = NULL, customer_lost_at = now()
          WHERE polar_customer_id = $1 AND deleted_at IS NULL RETURNING id",
        customer.0,
    )
    .fetch_optional(connection)
    .await?;
    Ok(organization.map(OrganizationId))
}

/// Another customer has taken the place of the one that was known: whatever Polar confirmed about that one is
/// unconfirmed now. Returns whether the new one is to get the invitation to the startup program that the former had.
///
/// # Errors
/// If the database fails.
pub async fn customer_replaced(
    connection: &mut PgConnection,
    organization: OrganizationId,
) -> Result<bool, sqlx::Error> {
    // The notes before the memberships, as whoever confirms a member does.
    sqlx::query!(
        "DELETE FROM polar_jobs.out_of_step WHERE organization_id = $1",
        organization.0,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "UPDATE polar_jobs.memberships SET synced_event = NULL WHERE organization_id = $1",
        organization.0,
    )
    .execute(&mut *connection)
    .await?;
    startup_programs::repeat(connection, organization).await
}

/// Whether the customer of the life that ended with change `event` must still go.
///
/// # Errors
/// If the database fails.
pub async fn is_to_be_erased(
    pool: &PgPool,
    organization: OrganizationId,
    event: i64,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT 1 FROM polar_jobs.organizations
                           WHERE id = $1 AND erasure_event = $2) AS "pending!""#,
        organization.0,
        event,
    )
    .fetch_one(pool)
    .await
}

/// Polar holds the organization as change `event` wants it.
///
/// # Errors
/// If the database fails.
pub async fn customer_synced(
    connection: &mut PgConnection,
    organization: OrganizationId,
    customer: Option<polar::CustomerId>,
    event: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE polar_jobs.organizations
            SET synced_at = CASE WHEN synced_event >= $2 THEN synced_at ELSE now() END,
                synced_event = greatest(synced_event, $2), customer_lost_at = NULL,
                polar_customer_id = CASE WHEN event_id = $2 OR $3::uuid IS NOT NULL THEN $3 ELSE polar_customer_id END
          WHERE id = $1",
        organization.0,
        event,
        customer.map(|customer| customer.0),
    )
    .execute(&mut *connection)
    .await?;
    // The organization before its customer's id and its notes, as whoever else writes these does.
    if let Some(customer) = customer {
        remember_customer(connection, organization, customer).await?;
    }
    out_of_step::clear(connection, organization, Subject::Customer).await
}

/// The customer of the life that ended with change `event` is gone at Polar. Written at once: a
/// new customer must never be taken for the old one.
///
/// # Errors
/// If the database fails.
pub async fn erased(
    pool: &PgPool,
    organization: OrganizationId,
    event: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE polar_jobs.organizations SET erasure_event = NULL, polar_customer_id = NULL
          WHERE id = $1 AND erasure_event = $2",
        organization.0,
        event,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Polar holds the member as it was wanted. Returns whether something newer is wanted by now.
///
/// # Errors
/// If the database fails.
pub async fn member_synced(
    connection: &mut PgConnection,
    organization: OrganizationId,
    wanted: &WantedMember,
) -> Result<bool, sqlx::Error> {
    out_of_step::clear(connection, organization, Subject::Member(wanted.user)).await?;
    // The person before the membership, as whoever applies a change does.
    address_accepted(connection, wanted).await?;
    let newer = sqlx::query_scalar!(
        r#"UPDATE polar_jobs.memberships m
              SET synced_at = CASE WHEN synced_event = $3 THEN synced_at ELSE now() END,
                  synced_event = $3
            WHERE organization_id = $1 AND user_id = $2
           RETURNING m.event_id > $3 AS "newer!""#,
        organization.0,
        wanted.user.0,
        wanted.version,
    )
    .fetch_optional(connection)
    .await?;
    Ok(newer.unwrap_or(false))
}

/// Polar took the person's address, if it is still the one that was wanted.
///
/// # Errors
/// If the database fails.
pub async fn address_accepted(
    connection: &mut PgConnection,
    wanted: &WantedMember,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE polar_jobs.people SET undeliverable_at = NULL
          WHERE user_id = $1 AND undeliverable_at IS NOT NULL AND changed_event <= $2",
        wanted.user.0,
        wanted.version,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Polar refused the person's address for the first time. Written at once, because the job fails.
///
/// # Errors
/// If the database fails.
pub async fn email_refused(pool: &PgPool, user: UserId) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE polar_jobs.people SET undeliverable_at = coalesce(undeliverable_at, now()) WHERE user_id = $1",
        user.0,
    )
    .execute(pool)
    .await?;
    Ok(())
}
