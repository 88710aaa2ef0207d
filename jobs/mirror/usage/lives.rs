//! Usage belongs to a life of its organization: what was recorded before a deletion is reported before
//! the customer is deleted, what was recorded after it is not, and what belongs to a new life waits
//! for its own customer.

use sqlx::{PgConnection, PgPool};

use crate::types::OrganizationId;

/// Whether usage or costs of a life that ended are still to be reported, or might still be committed.
/// The customer stays at Polar until then.
///
/// # Errors
/// If the database fails.
pub async fn unreported_before_deletion(
    pool: &PgPool,
    organization: OrganizationId,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT polar_jobs.unreported_before_deletion($1) AS "unreported!""#,
        organization.0
    )
    .fetch_one(pool)
    .await
}

/// Whether a deletion that Polar has not carried out yet waits for a window: then the next one should
/// close soon.
///
/// # Errors
/// If the database fails.
pub async fn deletion_waits(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM polar_jobs.organizations o
                           WHERE o.erasure_event IS NOT NULL AND polar_jobs.uncounted_before_deletion(o.id)) AS "waits!""#
    )
    .fetch_one(connection)
    .await
}
