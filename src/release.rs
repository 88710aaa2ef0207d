//! Which release of the program decides about schedules and kinds.
//!
//! During a roll-out two releases run side by side, and a process of the old one may be the last to
//! start. So a release that declares something says who it is, and only the newest one that was seen
//! within `OBEYED_FOR` is obeyed: newest by the migrations it carries, then by its version, then by when
//! this database first saw it. Every worker repeats its declaration, so a newest release that runs is
//! always seen. When it is taken back for good, the older one decides again after that time.

use chrono::TimeDelta;
use jobs::Registry;
use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use sqlx::postgres::types::PgInterval;

use crate::migrate::migrator;

/// How long a release that is no longer seen is obeyed.
const OBEYED_FOR: TimeDelta = TimeDelta::minutes(10);
/// A declaration waits no longer for that of another process; the next one comes within a minute.
const LOCK_TIMEOUT: &str = "5s";
/// Postgres ends a declaration whose process stands still in the middle of it, before others give up: a
/// frozen process must keep no other from starting.
const IDLE_TIMEOUT: &str = "2s";

/// A build of the program, as far as it declares something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    rank: Vec<i64>,
    fingerprint: String,
}

impl Release {
    /// This build with these jobs and schedules.
    #[must_use]
    pub fn of(registry: &Registry) -> Self {
        let migrations = migrator();
        let newest = migrations.iter().map(|migration| migration.version).max();
        let version = env!("CARGO_PKG_VERSION").split(|c: char| !c.is_ascii_digit());
        let numbers = version.take(3).map(|part| part.parse().unwrap_or(0));
        Self {
            rank: newest.into_iter().chain(numbers).collect(),
            fingerprint: fingerprint(registry),
        }
    }

    /// Says that this release is here, and returns whether it decides. The caller's transaction
    /// keeps other declarations out until it ends.
    ///
    /// # Errors
    /// If the database fails, or another declaration is not over in time.
    pub async fn announce(&self, transaction: &mut PgConnection) -> Result<bool, sqlx::Error> {
        sqlx::query!(
            "SELECT set_config('lock_timeout', $1, true) AS lock, set_config('idle_in_transaction_session_timeout', $2, true) AS idle",
            LOCK_TIMEOUT,
            IDLE_TIMEOUT,
        )
        .fetch_one(&mut *transaction)
        .await?;
        sqlx::query!(
            r#"SELECT pg_advisory_xact_lock(hashtextextended('polar_jobs.releases', 0)) AS "locked!: ()""#
        )
        .fetch_one(&mut *transaction)
        .await?;
        let known = sqlx::query_scalar!(
            "UPDATE polar_jobs.releases SET last_seen = clock_timestamp() WHERE rank = $1 AND fingerprint = $2 RETURNING id",
            &self.rank,
            self.fingerprint,
        )
        .fetch_optional(&mut *transaction)
        .await?;
        let id = match known {
            Some(id) => id,
            None => self.insert(transaction).await?,
        };
        let obeyed_for = PgInterval::try_from(OBEYED_FOR).map_err(sqlx::Error::Encode)?;
        let newest = sqlx::query_scalar!(
            // Seen later than now: before the database's clock was set back. Nobody knows when that was.
            "SELECT id FROM polar_jobs.releases
              WHERE last_seen BETWEEN clock_timestamp() - $1::interval AND clock_timestamp() + $1::interval
              ORDER BY rank DESC, id DESC LIMIT 1",
            obeyed_for,
        )
        .fetch_optional(transaction)
        .await?;
        Ok(newest == Some(id))
    }

    async fn insert(&self, connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar!(
            "INSERT INTO polar_jobs.releases (version, rank, fingerprint) VALUES ($1, $2, $3) RETURNING id",
            env!("CARGO_PKG_VERSION"),
            &self.rank,
            self.fingerprint,
        )
        .fetch_one(connection)
        .await
    }
}

/// Of everything that is declared, in an order of its own.
fn fingerprint(registry: &Registry) -> String {
    let kinds = registry.entries().map(|entry| {
        let (queue, attempts) = (entry.queue.name(), entry.retry.attempts);
        format!(
            "kind {} {queue} {} {attempts}\n",
            entry.kind, entry.priority
        )
    });
    let schedules = registry.schedules().iter();
    let schedules = schedules.map(|one| format!("schedule {} {}\n", one.name, one.cron));
    let mut lines: Vec<String> = kinds.chain(schedules).collect();
    lines.sort_unstable();
    let digest = Sha256::digest(lines.concat().as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
