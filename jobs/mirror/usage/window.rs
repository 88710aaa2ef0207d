//! Windows close at a transaction, not at a time.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

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

/// The oldest transaction that still runs and has written something: no window can close beyond it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HorizonHolder {
    /// Its backend, unless it was prepared for two-phase commit.
    pub pid: Option<i32>,
    /// `application_name` of the session, or the name of the prepared transaction.
    pub name: String,
    /// `active`, `idle in transaction`, `prepared`, ...
    pub state: String,
    /// How long the transaction has been open.
    pub age: TimeDelta,
}

impl std::fmt::Display for HorizonHolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "backend {pid} ({:?}, {}", self.name, self.state)?,
            None => write!(
                f,
                "the prepared transaction {:?} ({}",
                self.name, self.state
            )?,
        }
        write!(f, ", open for {} s)", self.age.num_seconds())
    }
}

/// Who holds the horizon back, if anybody does. Sessions of other users are only seen with the
/// role `pg_read_all_stats`.
///
/// # Errors
/// If the database fails.
pub async fn horizon_holder(
    executor: impl PgExecutor<'_>,
) -> Result<Option<HorizonHolder>, sqlx::Error> {
    let holder = sqlx::query!(
        r#"SELECT pid, name AS "name!", state AS "state!",
                  extract(epoch FROM clock_timestamp() - since)::bigint AS "seconds!"
             FROM (SELECT pid, coalesce(application_name, '') AS name, coalesce(state, 'unknown') AS state,
                          coalesce(xact_start, clock_timestamp()) AS since, backend_xid AS xid
                     FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()
                   UNION ALL
                   SELECT NULL, gid, 'prepared', prepared, transaction FROM pg_prepared_xacts) running
            ORDER BY age(xid) DESC LIMIT 1"#
    )
    .fetch_optional(executor)
    .await?;
    Ok(holder.map(|row| HorizonHolder {
        pid: row.pid,
        name: row.name,
        state: row.state,
        age: TimeDelta::seconds(row.seconds),
    }))
}
