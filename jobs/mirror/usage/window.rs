//! Windows close at a transaction, not at a time.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

/// How long Postgres may count a window: less than its job may take, with all that comes before the count.
const LONGEST_COUNT: Duration = Duration::from_secs(1700);

/// A window that was just closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its end: a whole second, later than every end before.
    pub end: DateTime<Utc>,
    /// Readings in it.
    pub readings: i64,
}

/// Closes a window and freezes its counts, in the caller's transaction; `None` where nothing was
/// recorded since the last one. The time of closing is that of Postgres. The self organization is
/// counted but excluded.
///
/// Where a standby is synchronous the commit waits for it: what is sent afterwards must not be
/// counted again by a standby that takes over.
///
/// # Errors
/// If the database fails, or is a copy that must be adopted first; the message then says so.
pub async fn close_window(
    connection: &mut PgConnection,
    self_organization: Option<Uuid>,
) -> Result<Option<Window>, sqlx::Error> {
    sqlx::query!(
        "SELECT set_config('synchronous_commit', 'on', true)
          WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')"
    )
    .fetch_optional(&mut *connection)
    .await?;
    // The job's time is over later: a count that went on without it would hold up the next one.
    sqlx::query_scalar!(
        "SELECT set_config('statement_timeout', $1, true)",
        LONGEST_COUNT.as_millis().to_string()
    )
    .fetch_one(&mut *connection)
    .await?;
    let closed = sqlx::query!(
        r#"SELECT window_end AS "end!", readings AS "readings!" FROM polar_jobs.close_usage_window($1)"#,
        self_organization,
    )
    .fetch_optional(connection)
    .await?;
    Ok(closed.map(|row| Window {
        end: row.end,
        readings: row.readings,
    }))
}
