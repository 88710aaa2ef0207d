//! For tests: a real, migrated database per test, at the price of a file copy.
//!
//! One throwaway server per test process, copied from a cached cluster whose template database is migrated already;
//! each test clones the template. The server stops with the process, however that ends, and its files are removed by
//! the next test process. `TEST_DATABASE_URL` names a server to use instead (its user must be allowed to create
//! databases). Without any Postgres tests fail; they never skip.
//!
//! Production code does not use this module.

mod cache;
mod durable;
mod server;
mod shared;

pub use self::durable::{DurableServer, durable_server};

use self::shared::Shared;
use sqlx::{PgPool, migrate::Migrator, postgres::PgPoolOptions};
use std::sync::{Arc, OnceLock};

/// A database of one test's own. It is removed with the process's server, not before: the pool may outlive this value.
#[derive(Debug, Clone)]
pub struct TestDatabase {
    /// Where it is, for programs that connect by themselves.
    pub url: String,
    /// At most ten connections to it.
    pub pool: PgPool,
}

/// A new database with the schema of `migrator`, which must be the same in all of a process.
///
/// # Panics
/// With the reason, when there is no Postgres or it refuses: a test without its database has failed.
pub async fn database(migrator: fn() -> Migrator) -> TestDatabase {
    let shared = shared(migrator).await;
    connect(shared.clone_template().await).await
}

/// A new database without our schema, for tests of the migrations.
///
/// # Panics
/// As [`database`].
pub async fn empty_database(migrator: fn() -> Migrator) -> TestDatabase {
    let shared = shared(migrator).await;
    connect(shared.create_empty().await).await
}

/// How many sessions of this database wait for a lock that another one holds.
///
/// # Panics
/// If the database does not answer.
pub async fn sessions_waiting_for_a_lock(pool: &PgPool) -> i64 {
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    sqlx::query_scalar(waiting)
        .fetch_one(pool)
        .await
        .unwrap_or_else(|error| panic!("cannot see who waits for a lock: {error}"))
}

async fn connect(created: Result<String, super::Error>) -> TestDatabase {
    let url = created.unwrap_or_else(|error| panic!("{error}"));
    let options = PgPoolOptions::new().max_connections(10);
    let pool = options
        .connect(&url)
        .await
        .unwrap_or_else(|error| panic!("cannot connect to a test database: {error}"));
    TestDatabase { url, pool }
}

/// The process's server, started by the first test that asks; every later one gets the same, or the same error.
async fn shared(migrator: fn() -> Migrator) -> Arc<Shared> {
    static SHARED: OnceLock<Result<Arc<Shared>, String>> = OnceLock::new();
    let started = move || {
        Shared::start(&migrator())
            .map(Arc::new)
            .map_err(|error| error.to_string())
    };
    let outcome = blocking(move || SHARED.get_or_init(started).clone()).await;
    outcome.unwrap_or_else(|error| panic!("{error}"))
}

/// Runs what waits for processes and files where it may wait.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
