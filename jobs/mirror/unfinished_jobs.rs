//! Whether jobs are under way.

use sqlx::PgPool;

/// Returns whether an unfinished job has one of these ordering keys.
///
/// # Errors
/// If the database fails.
pub async fn is_under_way(pool: &PgPool, keys: &[String]) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT coalesce(bool_or(polar_jobs.has_unfinished_job(key)), false) AS "any!" FROM unnest($1::text[]) key"#,
        keys,
    )
    .fetch_one(pool)
    .await
}
