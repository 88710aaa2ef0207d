//! The row that the fleet shares; the only SQL of the gate.
//!
//! The time is always the database's, so processes need not agree on one. A lease is read, decided
//! and stored against the version that was read: no lock outlives a statement, so a process that
//! is killed or stops between the two holds up nobody.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use super::Timing;
use super::budget::{Bucket, Demand, Rate};
use super::fleet::{Fleet, Lease};

/// Tries against others who change the row at the same moment.
const TRIES: u32 = 8;

/// The fleet's row, for one process.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    pool: PgPool,
    rate: Rate,
    timing: Timing,
}

/// What the fleet knows about Polar, for `doctor` and the like.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// Calls that were left when somebody last counted.
    pub calls_left: f64,
    /// When that was.
    pub counted_at: DateTime<Utc>,
    /// Until when Polar asked everybody to wait; past or `None` = it did not.
    pub wait_until: Option<DateTime<Utc>>,
    /// Since when Polar refuses the access token; `None` = it does not.
    pub unauthorized_since: Option<DateTime<Utc>>,
    /// When the token is tried next.
    pub next_probe_at: Option<DateTime<Utc>>,
}

/// What the fleet knows; `None` where no worker ever asked.
///
/// # Errors
/// If the database fails.
pub async fn status(pool: &PgPool) -> Result<Option<Status>, sqlx::Error> {
    sqlx::query_as!(
        Status,
        "SELECT calls_left, counted_at, wait_until, unauthorized_since, next_probe_at
           FROM polar_jobs.gate WHERE name = 'polar'"
    )
    .fetch_optional(pool)
    .await
}

impl Ledger {
    pub(super) fn new(pool: PgPool, rate: Rate, timing: Timing) -> Self {
        Self { pool, rate, timing }
    }

    /// Leases calls for `demand`; the moment is the end of the portion's life.
    ///
    /// # Errors
    /// If the database fails; then there is no budget.
    pub(super) async fn lease(&self, demand: Demand) -> Result<(Lease, Instant), sqlx::Error> {
        let mut tries = 0;
        loop {
            // Before the question: however long the answer takes, the portion lives no longer.
            let ends = Instant::now() + self.timing.portion;
            let (version, now, fleet) = self.read().await?;
            let probe_every = self.timing.authorization_probe;
            let (after, lease) = fleet.lease(&self.rate, probe_every, now, demand);
            if lease.calls == 0 || self.store(version, &after).await? {
                return Ok((lease, ends));
            }
            tries += 1;
            if tries == TRIES {
                return Ok((lease.lost(self.timing.portion / 10), ends));
            }
        }
    }

    async fn read(&self) -> Result<(i64, DateTime<Utc>, Fleet), sqlx::Error> {
        loop {
            let row = sqlx::query!(
                r#"SELECT version, clock_timestamp() AS "now!", calls_left, counted_at, wait_until,
                          unauthorized_since, next_probe_at
                     FROM polar_jobs.gate WHERE name = 'polar'"#
            )
            .fetch_optional(&self.pool)
            .await?;
            if let Some(row) = row {
                let fleet = Fleet {
                    bucket: Bucket {
                        calls_left: row.calls_left,
                        counted_at: row.counted_at,
                    },
                    wait_until: row.wait_until,
                    unauthorized_since: row.unauthorized_since,
                    next_probe_at: row.next_probe_at,
                };
                return Ok((row.version, row.now, fleet));
            }
            // Somebody removed the row: what was spent is not known, so it begins empty.
            sqlx::query!(
                "INSERT INTO polar_jobs.gate (name, calls_left, counted_at) VALUES ('polar', 0, clock_timestamp())
                 ON CONFLICT DO NOTHING"
            )
            .execute(&self.pool)
            .await?;
        }
    }

    /// `false` where somebody changed the row since `version`.
    async fn store(&self, version: i64, fleet: &Fleet) -> Result<bool, sqlx::Error> {
        let stored = sqlx::query!(
            "UPDATE polar_jobs.gate SET calls_left = $2, counted_at = $3, next_probe_at = $4, version = version + 1
              WHERE name = 'polar' AND version = $1",
            version,
            fleet.bucket.calls_left,
            fleet.bucket.counted_at,
            fleet.next_probe_at,
        )
        .execute(&self.pool)
        .await?;
        Ok(stored.rows_affected() == 1)
    }

    /// Polar asks everybody to wait for this long.
    pub(super) async fn wait(&self, time: Duration) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "INSERT INTO polar_jobs.gate AS known (name, calls_left, counted_at, wait_until)
             VALUES ('polar', 0, clock_timestamp(), clock_timestamp() + make_interval(secs => $1))
             ON CONFLICT (name) DO UPDATE SET wait_until = greatest(known.wait_until, excluded.wait_until),
                                              version = known.version + 1",
            time.as_secs_f64(),
        )
        .execute(&self.pool)
        .await
        .map(drop)
    }

    /// Polar refuses the token. `true` for the first in the fleet to say so.
    pub(super) async fn refuse(&self) -> Result<bool, sqlx::Error> {
        let written = sqlx::query!(
            "INSERT INTO polar_jobs.gate AS known (name, calls_left, counted_at, unauthorized_since, next_probe_at)
             VALUES ('polar', 0, clock_timestamp(), clock_timestamp(), clock_timestamp() + make_interval(secs => $1))
             ON CONFLICT (name) DO UPDATE SET unauthorized_since = excluded.unauthorized_since,
                                              next_probe_at = excluded.next_probe_at, version = known.version + 1
              WHERE known.unauthorized_since IS NULL",
            self.timing.authorization_probe.as_secs_f64(),
        )
        .execute(&self.pool)
        .await?;
        Ok(written.rows_affected() == 1)
    }

    /// Polar takes the token again. `true` for the first in the fleet to say so.
    pub(super) async fn resume(&self) -> Result<bool, sqlx::Error> {
        let written = sqlx::query!(
            "UPDATE polar_jobs.gate SET unauthorized_since = NULL, next_probe_at = NULL, version = version + 1
              WHERE name = 'polar' AND unauthorized_since IS NOT NULL"
        )
        .execute(&self.pool)
        .await?;
        Ok(written.rows_affected() == 1)
    }
}
