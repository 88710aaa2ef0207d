//! Schedules that should have ticked and did not: no worker lives, none knows the schedule, or its
//! job cannot be written.

use sqlx::PgPool;

/// A schedule and for how long its tick has been due.
#[derive(Clone, Debug, PartialEq)]
pub struct Overdue {
    /// The schedule.
    pub schedule: String,
    /// Seconds; 0 where it is paused or on time.
    pub seconds: f64,
}

/// Every schedule, by the database's clock. A worker looks once a second, so one that lives keeps all
/// of them below a few seconds.
///
/// # Errors
/// If the database fails.
pub async fn overdue(pool: &PgPool) -> Result<Vec<Overdue>, sqlx::Error> {
    // Seconds are subtracted and not moments: Postgres before 17 refuses to subtract infinite ones.
    sqlx::query_as!(
        Overdue,
        r#"SELECT name AS schedule,
                  CASE WHEN paused_at IS NOT NULL THEN 0
                       ELSE greatest(0, extract(epoch FROM now()) - extract(epoch FROM next_tick)) END::float8 AS "seconds!"
             FROM polar_jobs.schedules ORDER BY name"#
    )
    .fetch_all(pool)
    .await
}
