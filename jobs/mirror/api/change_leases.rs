//! One change of an organization's subscription at a time, across processes: a row that expires, because
//! a lock of the session would hold a connection while Polar is asked.

use std::time::Duration;

use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::types::OrganizationId;

/// Takes the lease for `term`, or takes over an expired one. `false` = somebody has it.
///
/// # Errors
/// If the database fails.
pub async fn acquire(
    pool: &PgPool,
    organization: OrganizationId,
    holder: Uuid,
    term: Duration,
) -> Result<bool, sqlx::Error> {
    let taken = sqlx::query!(
        "INSERT INTO polar_jobs.subscription_change_leases AS l (organization_id, holder, expires_at)
         VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3))
         ON CONFLICT (organization_id) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
          WHERE l.expires_at <= clock_timestamp()",
        organization.0,
        holder,
        term.as_secs_f64(),
    )
    .execute(pool)
    .await?;
    Ok(taken.rows_affected() == 1)
}

/// Prolongs the lease. `false` = it was lost.
///
/// # Errors
/// If the database fails.
pub async fn renew(
    connection: &mut PgConnection,
    organization: OrganizationId,
    holder: Uuid,
    term: Duration,
) -> Result<bool, sqlx::Error> {
    let renewed = sqlx::query!(
        "UPDATE polar_jobs.subscription_change_leases
            SET expires_at = clock_timestamp() + make_interval(secs => $3)
          WHERE organization_id = $1 AND holder = $2 AND expires_at > clock_timestamp()",
        organization.0,
        holder,
        term.as_secs_f64(),
    )
    .execute(connection)
    .await?;
    Ok(renewed.rows_affected() == 1)
}

/// Gives the lease back, if it is still held.
///
/// # Errors
/// If the database fails; then it expires.
pub async fn release(
    pool: &PgPool,
    organization: OrganizationId,
    holder: Uuid,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "DELETE FROM polar_jobs.subscription_change_leases WHERE organization_id = $1 AND holder = $2",
        organization.0,
        holder,
    )
    .execute(pool)
    .await?;
    Ok(())
}
