//! What the application is told of: the rows that it would read itself, and whether it wants to be told at all.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{Connection, PgConnection, PgPool};

use crate::contract::BEGIN;
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
/// one that starts last decides. Where it was told before and then was not, it is told everything now, because nobody
/// knows what changed meanwhile.
///
/// # Errors
/// If the database fails.
pub async fn declare(connection: &mut PgConnection, is_set: bool) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin_with(BEGIN).await?;
    let told_again = sqlx::query_scalar!(
        r#"WITH before AS (SELECT was_set FROM polar_jobs.app_webhook)
           UPDATE polar_jobs.app_webhook SET is_set = $1, was_set = was_set OR $1, changed_at = now() WHERE is_set <> $1
           RETURNING $1 AND (SELECT was_set FROM before) AS "told_again!""#,
        is_set,
    )
    .fetch_optional(&mut *transaction)
    .await?;
    if told_again == Some(true) {
        for notice in ["entitlements.changed", "fees.changed"] {
            sqlx::query!("SELECT polar_jobs.notify_app_of_all($1)", notice)
                .execute(&mut *transaction)
                .await?;
        }
    }
    transaction.commit().await
}

/// Whether the worker that started last has somebody to tell.
///
/// # Errors
/// If the database fails.
pub async fn is_told(pool: &PgPool) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!("SELECT is_set FROM polar_jobs.app_webhook")
        .fetch_one(pool)
        .await
}

/// When the first attempt of an unfinished job failed; `None` = none did.
///
/// # Errors
/// If the database fails.
pub async fn failing_since(pool: &PgPool, job: i64) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    sqlx::query_scalar!("SELECT polar_jobs.failing_since($1)", job,)
        .fetch_one(pool)
        .await
}
