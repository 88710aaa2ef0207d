//! The order of answers: a number is drawn before Polar is asked, and an answer is written only if
//! no later asking was written before, so that a slow reader cannot overwrite newer news.

use sqlx::PgPool;

/// Draws the number of an asking, before Polar is asked.
///
/// # Errors
/// If the database fails.
pub async fn begin(pool: &PgPool) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(r#"SELECT nextval('polar_jobs.asking') AS "asking!""#)
        .fetch_one(pool)
        .await
}

/// Whether an unfinished job has one of these ordering keys.
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
