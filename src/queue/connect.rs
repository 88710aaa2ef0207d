//! Connections for the queue's own statements.
//!
//! They are the same few statements for years, on tables whose size swings between nothing and
//! millions of rows within minutes. The planner's statistics are always about some other moment,
//! so a plan that reads a whole table or hashes a batch must not be on offer: measured, such a plan
//! turns 5 ms into seconds. The settings leave index lookups as the only way.

use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};

/// Whether the database is reached directly or through a transaction-mode pooler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pooler {
    /// A session of our own: LISTEN, session locks and session settings work.
    #[default]
    None,
    /// No session: no notifications (polling finds everything) and liveness by lease alone.
    Transaction,
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
}
