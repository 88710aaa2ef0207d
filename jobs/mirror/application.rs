//! What the application is told of: the rows that it would read itself, and whether it wants to be told at all.

use serde_json::Value;
use sqlx::{PgConnection, PgPool};

use crate::types::OrganizationId;

/// An organization's row of `entitlements`; `None` where it does not live.
///
/// # Errors
/// If the database fails.
pub async fn entitlements(
    pool: &PgPool,
    organization: OrganizationId,
) -> Result<Option<Value>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT to_jsonb(e) AS "row!" FROM polar_jobs.entitlements e WHERE e.organization_id = $1"#,
        organization.0,
    )
    .fetch_optional(pool)
    .await
}

/// An organization's row of `accounts`; `None` where it does not live.
///
/// # Errors
/// If the database fails.
pub async fn fees(
    pool: &PgPool,
    organization: OrganizationId,
) -> Result<Option<Value>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT to_jsonb(a) AS "row!" FROM polar_jobs.accounts a
             JOIN polar_jobs.organizations o ON o.id = a.organization_id
            WHERE o.id = $1 AND o.deleted_at IS NULL"#,
        organization.0,
    )
    .fetch_optional(pool)
    .await
}

/// Says whether the application is to be told of changes from now on. Each starting worker declares its settings, so the
/// one that starts last decides.
///
/// # Errors
/// If the database fails.
pub async fn declare(connection: &mut PgConnection, is_set: bool) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE polar_jobs.app_webhook SET is_set = $1, changed_at = now() WHERE is_set <> $1",
        is_set,
    )
    .execute(connection)
    .await?;
    Ok(())
}
