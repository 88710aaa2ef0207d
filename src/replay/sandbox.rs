//! A database in which everything can be tried and nothing stays.
//!
//! One connection, inside a transaction that is never committed. A job that begins and commits a
//! transaction of its own makes a savepoint there, so it sees what it wrote, as its follow-ups do;
//! when the connection closes, Postgres rolls everything back. Rows that were written stay locked until
//! then: whoever uses it must be done soon.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgPool};

/// How long a statement may take, and wait for a row that somebody else holds: in this transaction alone, for behind a
/// pooler the session is used by others as well.
/// A process that stands still leaves nothing held for long; a job may wait that long for Polar.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = '5s'; SET LOCAL lock_timeout = '1s'; \
                     SET LOCAL idle_in_transaction_session_timeout = '2min'";
/// There is one connection: a job that asked for a second one would wait for ever.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);

/// See the module.
pub(super) struct Sandbox(pub(super) PgPool);

impl Sandbox {
    /// A sandbox on the database of these options.
    pub(super) async fn open(options: PgConnectOptions) -> Result<Self, sqlx::Error> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            // Every connection of this pool is inside such a transaction from the start.
            .after_connect(|connection, _| {
                Box::pin(async move {
                    // Neither committed nor rolled back by us: it lasts as long as the connection.
                    std::mem::forget(connection.begin_with(BEGIN).await?);
                    Ok(())
                })
            });
        Ok(Self(pool.connect_with(options).await?))
    }

    /// Takes everything back.
    pub(super) async fn discard(self) {
        self.0.close().await;
    }
}
