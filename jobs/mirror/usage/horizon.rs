//! How far counting has come, and who holds it back.
//!
//! Whether usage waits is read from the readings and the cursor, which everybody may see. Who makes it wait is
//! only known as far as Postgres tells our role about the sessions of others.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgExecutor;

/// A window closes every five minutes: what waits longer than for two of them is held back.
pub const LATE: TimeDelta = TimeDelta::minutes(10);

/// Readings that no window holds yet.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Uncounted {
    /// Since when the oldest of them waits: from the begin of its transaction, or from the end of the newest
    /// window if that is later.
    pub since: DateTime<Utc>,
    /// For how many seconds that is, by the clock of Postgres.
    pub seconds: i64,
    /// Whether a transaction that began before it still runs, so that no window can close over it.
    pub held_back: bool,
}

impl Uncounted {
    /// Whether it waits longer than windows take.
    #[must_use]
    pub fn is_late(&self) -> bool {
        self.seconds > LATE.num_seconds()
    }
}

/// Looks at the oldest reading that is not counted; `None` where all are.
///
/// # Errors
/// If the database fails.
pub async fn uncounted(executor: impl PgExecutor<'_>) -> Result<Option<Uncounted>, sqlx::Error> {
    sqlx::query_as!(
        Uncounted,
        r#"SELECT w.since AS "since!", extract(epoch FROM clock_timestamp() - w.since)::bigint AS "seconds!",
                  w.held_back AS "held_back!"
             FROM (SELECT greatest(u.written_at, (SELECT c.window_end FROM polar_jobs.usage_cursor c WHERE c.window_end < clock_timestamp())) AS since,
                          u.written_by >= pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS held_back
                     FROM polar_jobs.usage u
                    WHERE u.written_by >= (SELECT from_xid FROM polar_jobs.usage_cursor)
                    ORDER BY u.written_by LIMIT 1) w"#
    )
    .fetch_optional(executor)
    .await
}

/// The oldest transaction that still runs and has written something: no window can close beyond it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HorizonHolder {
    /// Its backend, unless it was prepared for two-phase commit.
    pub pid: Option<i32>,
    /// Who opened it.
    pub role: String,
    /// `application_name` of the session, or the name of the prepared transaction.
    pub name: String,
    /// What is known of it; `None` where our role may not see the sessions of its role.
    pub seen: Option<SeenTransaction>,
}

/// What Postgres tells of a transaction to those who may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenTransaction {
    /// `active`, `idle in transaction`, `prepared`, ...
    pub state: String,
    /// How long it has been open.
    pub age: TimeDelta,
}

impl fmt::Display for HorizonHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { role, name, .. } = self;
        match self.pid {
            Some(pid) => write!(f, "backend {pid} of role {role} ({name:?}")?,
            None => write!(f, "the prepared transaction {name:?} of role {role} (")?,
        }
        match &self.seen {
            Some(SeenTransaction { state, age }) => {
                let comma = if self.pid.is_some() { ", " } else { "" };
                write!(f, "{comma}{state}, open for {} s)", age.num_seconds())
            }
            None => f.write_str(")"),
        }
    }
}

/// Who holds the horizon back, if anybody does.
///
/// # Errors
/// If the database fails.
pub async fn horizon_holder(
    executor: impl PgExecutor<'_>,
) -> Result<Option<HorizonHolder>, sqlx::Error> {
    let holder = sqlx::query!(
        r#"SELECT pid, role AS "role!", name AS "name!", state, extract(epoch FROM clock_timestamp() - since)::bigint AS seconds
             FROM (SELECT pid, coalesce(usename, '') AS role, coalesce(application_name, '') AS name, state,
                          xact_start AS since, backend_xid AS xid
                     FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()
                   UNION ALL
                   SELECT NULL, owner, gid, 'prepared', prepared, transaction FROM pg_prepared_xacts) running
            ORDER BY age(xid) DESC LIMIT 1"#
    )
    .fetch_optional(executor)
    .await?;
    Ok(holder.map(|row| HorizonHolder {
        pid: row.pid,
        role: row.role,
        name: row.name,
        seen: row.seconds.map(|seconds| SeenTransaction {
            state: row.state.unwrap_or_default(),
            age: TimeDelta::seconds(seconds),
        }),
    }))
}

/// The statement that lets our role see what the sessions of other roles do.
///
/// # Errors
/// If the database fails.
pub async fn grant_to_see_sessions(executor: impl PgExecutor<'_>) -> Result<String, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT format('GRANT pg_read_all_stats TO %I', current_user) AS "grant!""#
    )
    .fetch_one(executor)
    .await
}
