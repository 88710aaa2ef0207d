//! The order of Polar's answers: a slow reader must not overwrite what was read after it.

use sqlx::PgPool;

/// Returns the next answer number. Draw it *before* asking Polar: an answer is stored only if no later one was.
///
/// # Errors
/// If the database fails.
pub async fn next_answer_number(pool: &PgPool) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(r#"SELECT nextval('polar_jobs.asking') AS "asking!""#)
        .fetch_one(pool)
        .await
}
