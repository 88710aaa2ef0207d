//! Connections for the queue's own statements, and how many of them a process may have.
//!
//! They are the same few statements for years, on tables whose size swings between nothing and
//! millions of rows within minutes. The planner's statistics are always about some other moment,
//! so a plan that reads a whole table or hashes a batch must not be on offer: measured, such a plan
//! turns 5 ms into seconds. The settings leave index lookups as the only way.

use std::str::FromStr;
use std::time::Duration;

use jobs::contract::in_time;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgConnection, PgPool};

/// How long anybody waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection of a pool that nobody used for so long is closed.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// And so is one of this age: after a failover it may lead to what takes no writes any more.
const LIFETIME: Duration = Duration::from_secs(60);
/// One that comes back in the middle of a statement has so long to end it.
const RETURN_TIMEOUT: Duration = Duration::from_secs(10);

/// What stands between us and Postgres.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pooler {
    /// Nothing, or a pooler that gives us a session: LISTEN, session locks and session settings work.
    #[default]
    None,
    /// A pooler that gives us a server connection per transaction: no notifications (polling finds everything) and
    /// liveness by lease alone.
    Transaction,
}

impl Pooler {
    /// Whether locks, settings and LISTEN of a connection stay with it.
    #[must_use]
    pub const fn has_sessions(self) -> bool {
        matches!(self, Self::None)
    }
}

/// How many connections a worker process may have, and for what.
///
/// `DATABASE_CONNECTIONS` is the most that any process may take. A worker keeps to four fifths of it and an
/// ingress to two, but at least to [`Self::LEAST`], so that two workers and an ingress together, which is
/// what a roll-out needs at least, take no more than twice the number: with the default of 10 the 20 of a
/// small managed database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionBudget {
    /// For storing results and claiming. One is enough while little happens; a second keeps the
    /// database busy while this process runs the first one's jobs.
    pub fetchers: u32,
    /// For reclaiming, polling, schedules, notifications and metrics.
    pub housekeeping: u32,
    /// For the jobs' own reading and writing.
    pub jobs: u32,
}

impl ConnectionBudget {
    /// One holds the lease and listens.
    const LEASE: u32 = 1;
    /// What a process may have if nobody says otherwise.
    pub const DEFAULT: u32 = 10;
    /// The fewest with which a worker works.
    pub const LEAST: u32 = 4;
    /// The connection of an ingress that only writes deliveries.
    const WRITER: u32 = 1;
    /// The one on which it looks whether it is ready.
    pub const READINESS: u32 = 1;

    /// Divides what a worker takes where a process may have `most`, at least [`Self::LEAST`].
    #[must_use]
    pub fn of(most: u32) -> Self {
        let total = Self::of_worker(most);
        let (fetchers, housekeeping) = match total {
            ..6 => (1, 1),
            6..8 => (2, 1),
            8.. => (2, 2),
        };
        let rest = total.saturating_sub(Self::LEASE + fetchers + housekeeping);
        Self {
            fetchers,
            housekeeping,
            jobs: rest.max(1),
        }
    }

    /// What a worker takes where a process may have `most`.
    #[must_use]
    pub fn of_worker(most: u32) -> u32 {
        (most * 4 / 5).max(Self::LEAST)
    }

    /// What an ingress takes where a process may have `most`.
    #[must_use]
    pub fn of_ingress(most: u32) -> u32 {
        (most * 2 / 5).max(Self::LEAST)
    }

    /// What an ingress has beside these, for changes, the organizations API and metrics: at least two, of which
    /// what takes long leaves one to the others.
    #[must_use]
    pub fn ingress_pool(most: u32) -> u32 {
        Self::of_ingress(most) - Self::WRITER - Self::READINESS
    }
}

/// How to open the queue's connections.
#[derive(Clone, Debug)]
pub struct QueueDatabase {
    options: PgConnectOptions,
    /// See [`Pooler`].
    pub pooler: Pooler,
}

impl QueueDatabase {
    /// Parses a database URL.
    ///
    /// # Errors
    /// If the URL is not one; the message does not repeat it.
    pub fn new(url: &str, pooler: Pooler) -> Result<Self, sqlx::Error> {
        let options = PgConnectOptions::from_str(url)?.application_name("polar-jobs worker");
        let options = match pooler {
            Pooler::None => options.options([
                ("plan_cache_mode", "force_generic_plan"),
                ("enable_seqscan", "off"),
                ("enable_hashjoin", "off"),
                ("enable_mergejoin", "off"),
                ("jit", "off"),
                // Statements that wait for a row must see what was committed meanwhile, whatever the
                // database's or the role's default is.
                ("default_transaction_isolation", "read committed"),
            ]),
            // A pooler refuses start-up parameters that it does not know, and sqlx sends this one unasked.
            Pooler::Transaction => options.extra_float_digits(None),
        };
        Ok(Self { options, pooler })
    }

    /// Opens one connection.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        self.options.connect().await
    }

    /// What [`Self::connect`] connects with, planner settings included, for a connection that wants a
    /// name or options of its own.
    #[must_use]
    pub fn plain(&self) -> PgConnectOptions {
        self.options.clone()
    }

    /// The same with limits for statements and for the wait for a lock, where there are sessions to
    /// set them in.
    #[must_use]
    pub fn bounded(&self, statement: Duration, lock: Duration) -> PgConnectOptions {
        match self.pooler {
            Pooler::None => self.plain().options([
                ("statement_timeout", statement.as_millis().to_string()),
                ("lock_timeout", lock.as_millis().to_string()),
            ]),
            Pooler::Transaction => self.plain(),
        }
    }

    /// A pool that connects when it is needed.
    #[must_use]
    pub fn pool(options: PgConnectOptions, connections: u32) -> PgPool {
        pool_options()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            // Who finds a dead connection tries again; a question before each use costs a round trip.
            .test_before_acquire(false)
            .connect_lazy_with(options)
    }
}

/// What every pool has in common. sqlx asks a connection that comes back whether it answers, and waits for that without
/// end: where the server has gone without a word, its place in the pool is taken for as long as the kernel hopes.
#[must_use]
pub fn pool_options() -> PgPoolOptions {
    PgPoolOptions::new()
        .idle_timeout(IDLE_TIMEOUT)
        .max_lifetime(LIFETIME)
        .after_release(|connection, _| {
            Box::pin(async {
                in_time(RETURN_TIMEOUT, connection.ping()).await?;
                Ok(true)
            })
        })
}

/// Bounds the waits for locks in the rest of a transaction.
///
/// # Errors
/// If the database fails.
pub async fn set_lock_timeout(
    transaction: &mut PgConnection,
    timeout: Duration,
) -> Result<(), sqlx::Error> {
    sqlx::query_scalar!(
        "SELECT set_config('lock_timeout', $1, true)",
        timeout.as_millis().to_string()
    )
    .fetch_one(transaction)
    .await
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_never_takes_more_than_it_may() {
        for most in ConnectionBudget::LEAST..=100 {
            let budget = ConnectionBudget::of(most);
            let sum = budget.fetchers + budget.housekeeping + budget.jobs + ConnectionBudget::LEASE;
            assert_eq!(sum, ConnectionBudget::of_worker(most));
            assert!(sum <= most);
            assert!(budget.jobs > 0 && budget.fetchers > 0 && budget.housekeeping > 0);
        }
    }

    #[test]
    fn an_ingress_never_takes_more_than_it_may_and_has_one_connection_for_what_takes_long_and_another()
     {
        for most in ConnectionBudget::LEAST..=100 {
            assert!(ConnectionBudget::of_ingress(most) <= most);
            assert!(ConnectionBudget::ingress_pool(most) >= 2);
        }
    }

    #[test]
    fn two_workers_and_an_ingress_take_no_more_than_twice_what_one_process_may() {
        for most in 6..=1000 {
            let together =
                2 * ConnectionBudget::of_worker(most) + ConnectionBudget::of_ingress(most);
            assert!(together <= 2 * most, "{together} of {most}");
        }
    }
}
