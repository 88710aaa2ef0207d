//! Invitations to the startup program, as operators want them.

use sqlx::{PgConnection, PgPool};

use crate::types::OrganizationId;

/// What is wanted of one organization, and how far that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Whether it is to be invited.
    pub invited: bool,
    /// The discount that the invitation is, from the moment that Polar has made it.
    pub discount: Option<polar::DiscountId>,
    /// The last order.
    pub version: i64,
    /// The last order that was carried out, or refused.
    pub done_version: i64,
    /// Why it was refused.
    pub refusal: Option<String>,
}

/// Orders an invitation, or its end. Returns the order's number.
///
/// # Errors
/// If the database fails, or the organization is not known.
pub async fn order(
    connection: &mut PgConnection,
    organization: OrganizationId,
    invited: bool,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        "INSERT INTO polar_jobs.startup_programs AS p (organization_id, invited) VALUES ($1, $2)
         ON CONFLICT (organization_id) DO UPDATE
            SET invited = excluded.invited, version = p.version + 1, refusal = NULL
         RETURNING version",
        organization.0,
        invited,
    )
    .fetch_one(connection)
    .await
}

/// The invitation is to be carried out once more, for another customer. `false` = the organization was not invited.
///
/// # Errors
/// If the database fails.
pub async fn repeat(
    connection: &mut PgConnection,
    organization: OrganizationId,
) -> Result<bool, sqlx::Error> {
    let repeated = sqlx::query!(
        "UPDATE polar_jobs.startup_programs SET done_version = least(done_version, version - 1)
          WHERE organization_id = $1 AND invited AND refusal IS NULL",
        organization.0,
    )
    .execute(connection)
    .await?;
    Ok(repeated.rows_affected() == 1)
}

/// What is wanted; `None` = nobody ever ordered anything.
///
/// # Errors
/// If the database fails.
pub async fn read(
    pool: &PgPool,
    organization: OrganizationId,
) -> Result<Option<Wanted>, sqlx::Error> {
    let row = sqlx::query!(
        "SELECT invited, discount_id, version, done_version, refusal
           FROM polar_jobs.startup_programs WHERE organization_id = $1",
        organization.0,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| Wanted {
        invited: row.invited,
        discount: row.discount_id.map(polar::DiscountId),
        version: row.version,
        done_version: row.done_version,
        refusal: row.refusal,
    }))
}

/// At most `limit` organizations with an order that was neither carried out nor refused.
///
/// # Errors
/// If the database fails.
pub async fn unfinished(pool: &PgPool, limit: i64) -> Result<Vec<OrganizationId>, sqlx::Error> {
    let ids = sqlx::query_scalar!(
        "SELECT organization_id FROM polar_jobs.startup_programs
          WHERE done_version < version ORDER BY organization_id LIMIT $1",
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(ids.into_iter().map(OrganizationId).collect())
}

/// Remembers the discount as soon as Polar has made it: a run that comes again must not make another.
///
/// # Errors
/// If the database fails.
pub async fn made(
    pool: &PgPool,
    organization: OrganizationId,
    discount: polar::DiscountId,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE polar_jobs.startup_programs SET discount_id = $2 WHERE organization_id = $1",
        organization.0,
        discount.0,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// An order was carried out, or refused for a reason; `discount` is what the invitation is now.
///
/// # Errors
/// If the database fails.
pub async fn done(
    connection: &mut PgConnection,
    organization: OrganizationId,
    version: i64,
    discount: Option<polar::DiscountId>,
    refusal: Option<&str>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE polar_jobs.startup_programs
            SET done_version = greatest(done_version, $2), discount_id = $3,
                refusal = CASE WHEN version = $2 THEN $4 ELSE refusal END
          WHERE organization_id = $1",
        organization.0,
        version,
        discount.map(|discount| discount.0),
        refusal,
    )
    .execute(connection)
    .await?;
    Ok(())
}
