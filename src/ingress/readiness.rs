//! Whether this process should get requests now. The port is public: anybody may ask, as often as they
//! like, so all who ask within a second share one look at the database, and none learns its names.

use std::time::Duration;

use sqlx::{PgPool, Row};
use tokio::time::timeout;

use super::recent::Recent;
use super::server_probe::ServerProbe;
use crate::migrate::migrator;
use crate::queue::connect::{ConnectionBudget, QueueDatabase, pool_options};
use crate::sqlstate::{
    is_lock_timeout, is_permission_missing, is_schema_missing, is_statement_timeout,
};

/// A load balancer asks every few seconds; a database that needs longer than this is not ready.
const READY_TIMEOUT: Duration = Duration::from_secs(1);
/// The same, enforced by Postgres, so that a look that was given up does not hold up the next one.
const STATEMENT_TIMEOUT: Duration = Duration::from_millis(900);

/// A connection for readiness alone: whatever else the process waits for, it can still tell whether the database
/// answers.
pub(super) fn connection_of_its_own(database: &QueueDatabase) -> PgPool {
    let options = database.bounded(STATEMENT_TIMEOUT, STATEMENT_TIMEOUT);
    pool_options()
        .max_connections(ConnectionBudget::READINESS)
        .connect_lazy_with(options.application_name("polar-jobs readiness"))
}

/// Why this process should get no requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotReady {
    #[error("the database does not answer within 1 s")]
    Silent,
    #[error("the database cannot be reached")]
    Unreachable,
    #[error("the database has no schema: run `polar-jobs migrate`")]
    NoSchema,
    #[error(
        "the schema is at version {found}, this program needs {needed}: run `polar-jobs migrate`"
    )]
    Behind { found: i64, needed: i64 },
    #[error(
        "the role of DATABASE_URL may not read the schema polar_jobs: run this as the schema's owner"
    )]
    NotGranted,
    #[error("the database is read-only, such as a standby")]
    ReadOnly,
}

/// What is known of the database.
#[derive(Clone)]
pub(super) struct Readiness {
    pool: PgPool,
    server: ServerProbe,
    recent: Recent<Result<(), NotReady>>,
}

impl Readiness {
    pub(super) fn of(pool: PgPool) -> Self {
        Self {
            server: ServerProbe::of(pool.clone()),
            pool,
            recent: Recent::new(),
        }
    }

    /// The answer of the last second.
    pub(super) async fn check(&self) -> Result<(), NotReady> {
        let answer = self.recent.get(async |before| {
            let looked = match timeout(READY_TIMEOUT, look(&self.pool)).await {
                Ok(looked) => looked,
                Err(_) if self.server.refuses().await => Err(NotReady::Unreachable),
                Err(_) => Err(NotReady::Silent),
            };
            if before != Some(looked) {
                report(looked);
            }
            looked
        });
        answer.await
    }
}

/// Once per change: what the public does not learn, operators find in the log line of the failing look.
fn report(looked: Result<(), NotReady>) {
    match looked {
        Ok(()) => tracing::info!("ready"),
        Err(reason) => tracing::warn!(%reason, "not ready"),
    }
}

/// A newer schema is fine: migrations only expand what a running release uses. The table is the
/// migrator's own, so the statement is not one of those checked against the schema at compile time.
async fn look(pool: &PgPool) -> Result<(), NotReady> {
    let needed = migrator()
        .iter()
        .map(|migration| migration.version)
        .max()
        .unwrap_or_default();
    let mut connection = pool.acquire().await.map_err(|error| explain(&error))?;
    let row = sqlx::query(
        "SELECT coalesce(max(version), 0) AS found,
                pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean AS read_only
           FROM polar_jobs._migrations WHERE success",
    )
    .fetch_one(&mut *connection)
    .await
    .and_then(|row| Ok((row.try_get("found")?, row.try_get("read_only")?)));
    match row.map_err(|error| explain(&error))? {
        (_, true) => {
            // Another server may answer for the same name by now.
            connection.close_on_drop();
            Err(NotReady::ReadOnly)
        }
        (found, false) if found < needed => Err(NotReady::Behind { found, needed }),
        _ => Ok(()),
    }
}

fn explain(error: &sqlx::Error) -> NotReady {
    if is_schema_missing(error) {
        return NotReady::NoSchema;
    }
    if is_permission_missing(error) {
        return NotReady::NotGranted;
    }
    if is_statement_timeout(error) || is_lock_timeout(error) {
        return NotReady::Silent;
    }
    tracing::debug!(%error, "the database was asked in vain whether it is ready");
    NotReady::Unreachable
}
