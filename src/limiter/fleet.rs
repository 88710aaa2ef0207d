//! What the fleet knows about Polar, as one row, and what one process may do by it at a moment.
//!
//! The time is always the database's, so processes need not agree on one. A grant is read, decided
//! and stored against the version that was read: no lock outlives a statement and nothing belongs to
//! a session, so a process that is killed or stops between the two holds up nobody, and a pooler in
//! between changes nothing. The only SQL of the limiter.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use polar::{LONGEST_RETRY_AFTER, Rejected, RejectedReason};
use sqlx::PgPool;

use super::budget::{Bucket, Demand, ONE_URGENT_CALL, Rate};
use super::settings::Timing;

/// Tries against others who change the row at the same moment.
const TRIES: u32 = 8;

/// The row of `polar_jobs.rate_limiter`, as far as grants depend on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fleet {
    pub(super) bucket: Bucket,
    /// Polar asked everybody to wait until here.
    pub(super) wait_until: Option<DateTime<Utc>>,
    /// Polar refuses our token.
    pub(super) unauthorized_since: Option<DateTime<Utc>>,
    /// Whoever asks first after this may try the token.
    pub(super) next_probe_at: Option<DateTime<Utc>>,
}

/// What one process may do now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct CallGrant {
    /// Calls to be made within the life of a quota.
    pub(super) calls: u32,
    /// When it is worth asking for more; zero if all demand is met.
    pub(super) more_in: Duration,
    /// What the fleet is doing.
    pub(super) outlook: Outlook,
    /// What is left for the fleet.
    pub(super) calls_left: f64,
}

/// What a process tells the fleet of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenReport {
    /// The token is refused.
    Refused,
    /// The token is taken again.
    Accepted,
}

/// What a process tells the fleet of its breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BreakerReport {
    /// Polar is down for this process.
    Opened {
        /// When it tries again.
        until: Instant,
    },
    /// It is up again.
    Closed,
}

/// What a process has to tell the fleet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reports {
    /// Polar asked everybody to wait.
    pub(super) wait_until: Option<Instant>,
    /// The token was refused or taken.
    pub(super) token: Option<TokenReport>,
    /// The breaker opened or closed.
    pub(super) breaker: Option<BreakerReport>,
}

impl CallGrant {
    /// The same where others were faster: nothing was stored, so nothing was given.
    pub(super) fn lost(self, again_in: Duration) -> Self {
        let outlook = match self.outlook {
            Outlook::Probe => Outlook::Refused(again_in),
            other => other,
        };
        Self {
            calls: 0,
            more_in: again_in,
            outlook,
            ..self
        }
    }
}

/// What the fleet is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outlook {
    /// Calls go out.
    Open,
    /// Everybody waits, as Polar asked.
    Waiting(Duration),
    /// Everybody waits for a probe of the token, at the earliest in this time.
    Refused(Duration),
    /// The token is refused, and the next call that anybody makes may be the fleet's probe.
    ProbeDue,
    /// The token is refused, and the one call of this grant is the fleet's probe.
    Probe,
}

impl Fleet {
    /// What a process that wants `demand` may do at `now`, and the row after that.
    pub(super) fn grant(
        &self,
        rate: &Rate,
        probe_every: Duration,
        now: DateTime<Utc>,
        demand: Demand,
    ) -> (Self, CallGrant) {
        if let Some(wait) = self.waits(now) {
            return (*self, self.nothing(Outlook::Waiting(wait)));
        }
        if self.unauthorized_since.is_none() {
            return self.take(rate, now, demand, Outlook::Open);
        }
        let probe_in = self.next_probe_at.and_then(|at| ahead(now, at));
        if let Some(wait) = probe_in.filter(|wait| *wait <= probe_every) {
            return (*self, self.nothing(Outlook::Refused(wait)));
        }
        if demand == Demand::default() {
            // Only looking: the probe is for whoever has a call to make.
            return (*self, self.nothing(Outlook::ProbeDue));
        }
        let (mut after, grant) = self.take(rate, now, ONE_URGENT_CALL, Outlook::Probe);
        if grant.calls == 0 {
            return (
                after,
                CallGrant {
                    outlook: Outlook::Refused(grant.more_in),
                    ..grant
                },
            );
        }
        after.next_probe_at =
            Some(now + TimeDelta::from_std(probe_every).unwrap_or(TimeDelta::MAX));
        // Whatever was taken ahead is spent: a probe is one call.
        (after, CallGrant { calls: 1, ..grant })
    }

    /// How long Polar asked everybody to wait. What is further ahead was stored before the database's clock was
    /// set back.
    fn waits(&self, now: DateTime<Utc>) -> Option<Duration> {
        let wait = self.wait_until.and_then(|until| ahead(now, until));
        wait.filter(|wait| *wait <= LONGEST_RETRY_AFTER)
    }

    fn take(
        &self,
        rate: &Rate,
        now: DateTime<Utc>,
        demand: Demand,
        outlook: Outlook,
    ) -> (Self, CallGrant) {
        let taken = rate.take(self.bucket, now, demand);
        let grant = CallGrant {
            calls: taken.calls,
            more_in: taken.more_in,
            outlook,
            calls_left: taken.bucket.calls_left,
        };
        (
            Self {
                bucket: taken.bucket,
                ..*self
            },
            grant,
        )
    }

    fn nothing(&self, outlook: Outlook) -> CallGrant {
        CallGrant {
            calls: 0,
            more_in: Duration::ZERO,
            outlook,
            calls_left: self.bucket.calls_left,
        }
    }
}

/// The time from `now` to a later moment.
fn ahead(now: DateTime<Utc>, moment: DateTime<Utc>) -> Option<Duration> {
    (moment - now).to_std().ok().filter(|wait| !wait.is_zero())
}

/// What a command that looks once may do.
#[derive(Clone, Copy, Debug)]
pub(super) enum SingleCallGrant {
    /// So many calls, until then.
    Calls(u32, Instant),
    /// Nothing yet.
    Later(Rejected),
}

impl SingleCallGrant {
    fn later(retry_after: Duration, reason: RejectedReason) -> Self {
        Self::Later(Rejected {
            retry_after,
            reason,
        })
    }
}

/// The fleet's row, for one process.
#[derive(Clone, Debug)]
pub(super) struct FleetStore {
    pool: PgPool,
    rate: Rate,
    timing: Timing,
    /// Calls carry another token than the fleet's, so it does not matter whether that one is refused.
    other_token: bool,
}

/// The row as it was read.
struct FleetRow {
    version: i64,
    /// The database's time.
    now: DateTime<Utc>,
    fleet: Fleet,
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
    /// When a process that finds Polar down tries it again; past or `None` = none does.
    pub breaker_probe_at: Option<DateTime<Utc>>,
    /// The database's time, to compare the others with.
    pub now: DateTime<Utc>,
}

/// What the fleet knows; `None` where no worker ever asked.
///
/// # Errors
/// If the database fails.
pub async fn status(pool: &PgPool) -> Result<Option<Status>, sqlx::Error> {
    sqlx::query_as!(
        Status,
        r#"SELECT calls_left, counted_at, unauthorized_since, next_probe_at, breaker_probe_at,
                  CASE WHEN wait_until <= clock_timestamp() + make_interval(secs => $1) THEN wait_until END AS wait_until,
                  clock_timestamp() AS "now!"
             FROM polar_jobs.rate_limiter WHERE name = 'polar'"#,
        LONGEST_RETRY_AFTER.as_secs_f64(),
    )
    .fetch_optional(pool)
    .await
}

impl FleetStore {
    pub(super) fn new(pool: PgPool, rate: Rate, timing: Timing) -> Self {
        Self {
            pool,
            rate,
            timing,
            other_token: false,
        }
    }

    /// The same for calls that carry another token than the fleet's.
    pub(super) fn for_other_token(self) -> Self {
        Self {
            other_token: true,
            ..self
        }
    }

    /// Takes calls for `demand` out of the budget; the moment is the end of the quota's life.
    ///
    /// # Errors
    /// If the database fails; then there is no budget.
    pub(super) async fn take_calls(
        &self,
        demand: Demand,
    ) -> Result<(CallGrant, Instant), sqlx::Error> {
        let mut tries = 0;
        loop {
            // Before the question: however long the answer takes, the quota lives no longer.
            let ends = Instant::now() + self.timing.quota_lifetime;
            let FleetRow {
                version,
                now,
                mut fleet,
            } = self.read().await?;
            if self.other_token {
                fleet.unauthorized_since = None;
            }
            let probe_every = self.timing.token_probe_interval;
            let (after, grant) = fleet.grant(&self.rate, probe_every, now, demand);
            if grant.calls == 0 || self.store(version, &after).await? {
                return Ok((grant, ends));
            }
            tries += 1;
            if tries == TRIES {
                return Ok((grant.lost(self.timing.quota_lifetime / 10), ends));
            }
        }
    }

    /// Takes a call, and perhaps some ahead, whatever became of the fleet's token.
    ///
    /// # Errors
    /// If the database fails; then there is no budget.
    pub(super) async fn take_one(&self) -> Result<SingleCallGrant, sqlx::Error> {
        for _ in 0..TRIES {
            let ends = Instant::now() + self.timing.quota_lifetime;
            let FleetRow {
                version,
                now,
                fleet,
            } = self.read().await?;
            if let Some(wait) = fleet.waits(now) {
                return Ok(SingleCallGrant::later(wait, RejectedReason::RateLimited));
            }
            let (after, grant) = fleet.take(&self.rate, now, ONE_URGENT_CALL, Outlook::Open);
            if grant.calls == 0 {
                return Ok(SingleCallGrant::later(
                    grant.more_in,
                    RejectedReason::Budget,
                ));
            }
            if self.store(version, &after).await? {
                return Ok(SingleCallGrant::Calls(grant.calls, ends));
            }
        }
        let again_in = self.timing.quota_lifetime / 10;
        Ok(SingleCallGrant::later(again_in, RejectedReason::Budget))
    }

    async fn read(&self) -> Result<FleetRow, sqlx::Error> {
        loop {
            let row = sqlx::query!(
                r#"SELECT version, clock_timestamp() AS "now!", calls_left, counted_at, wait_until,
                          unauthorized_since, next_probe_at
                     FROM polar_jobs.rate_limiter WHERE name = 'polar'"#
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
                return Ok(FleetRow {
                    version: row.version,
                    now: row.now,
                    fleet,
                });
            }
            // Somebody removed the row: what was spent is not known, so it begins empty.
            sqlx::query!(
                "INSERT INTO polar_jobs.rate_limiter (name, calls_left, counted_at) VALUES ('polar', 0, clock_timestamp())
                 ON CONFLICT DO NOTHING"
            )
            .execute(&self.pool)
            .await?;
        }
    }

    /// `false` where somebody changed the row since `version`.
    async fn store(&self, version: i64, fleet: &Fleet) -> Result<bool, sqlx::Error> {
        let stored = sqlx::query!(
            "UPDATE polar_jobs.rate_limiter SET calls_left = $2, counted_at = $3, next_probe_at = $4, version = version + 1
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
    pub(super) async fn note_wait(&self, time: Duration) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "INSERT INTO polar_jobs.rate_limiter AS known (name, calls_left, counted_at, wait_until)
             VALUES ('polar', 0, clock_timestamp(), clock_timestamp() + make_interval(secs => $1))
             ON CONFLICT (name) DO UPDATE
                SET wait_until = greatest(excluded.wait_until, CASE
                        WHEN known.wait_until <= clock_timestamp() + make_interval(secs => $2) THEN known.wait_until END),
                    version = known.version + 1",
            time.as_secs_f64(),
            LONGEST_RETRY_AFTER.as_secs_f64(),
        )
        .execute(&self.pool)
        .await
        .map(drop)
    }

    /// Polar refuses the token. `true` for the first in the fleet to say so.
    pub(super) async fn note_token_refused(&self) -> Result<bool, sqlx::Error> {
        let written = sqlx::query!(
            "INSERT INTO polar_jobs.rate_limiter AS known (name, calls_left, counted_at, unauthorized_since, next_probe_at)
             VALUES ('polar', 0, clock_timestamp(), clock_timestamp(), clock_timestamp() + make_interval(secs => $1))
             ON CONFLICT (name) DO UPDATE SET unauthorized_since = excluded.unauthorized_since,
                                              next_probe_at = excluded.next_probe_at, version = known.version + 1
              WHERE known.unauthorized_since IS NULL",
            self.timing.token_probe_interval.as_secs_f64(),
        )
        .execute(&self.pool)
        .await?;
        Ok(written.rows_affected() == 1)
    }

    /// Polar takes the token again. `true` for the first in the fleet to say so.
    pub(super) async fn note_token_accepted(&self) -> Result<bool, sqlx::Error> {
        let written = sqlx::query!(
            "UPDATE polar_jobs.rate_limiter SET unauthorized_since = NULL, next_probe_at = NULL, version = version + 1
              WHERE name = 'polar' AND unauthorized_since IS NOT NULL"
        )
        .execute(&self.pool)
        .await?;
        Ok(written.rows_affected() == 1)
    }

    /// Polar is down for this process, which tries again after `probe_in`; `None`: it is up again.
    pub(super) async fn note_breaker(&self, probe_in: Option<Duration>) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "UPDATE polar_jobs.rate_limiter
                SET breaker_probe_at = greatest(
                        CASE WHEN $1::float8 IS NULL THEN NULL ELSE breaker_probe_at END,
                        clock_timestamp() + make_interval(secs => $1))
              WHERE name = 'polar'",
            probe_in.map(|probe_in| probe_in.as_secs_f64()),
        )
        .execute(&self.pool)
        .await
        .map(drop)
    }
}

#[cfg(test)]
#[path = "fleet_tests.rs"]
mod tests;
