//! The writer's own connection: opened when it is needed, given up at the first error,
//! so that nothing is left to repair after a restart of Postgres.

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};

use super::{GROUP_LOCK_TIMEOUT_MS, STATEMENT_TIMEOUT_MS};
use crate::queue::connect::{Pooler, QueueDatabase};

/// Whether Postgres itself gives up in time.
#[derive(Clone, Copy, Debug)]
enum Limits {
    /// Set once, for the session.
    Session,
    /// Behind a transaction-mode pooler there is no session to set them in: what we gave up on may
    /// still be stored, and the sender's next attempt then finds a duplicate.
    None,
}

/// A connection that may be gone.
pub(super) struct WriterConnection {
    options: PgConnectOptions,
    limits: Limits,
    open: Option<PgConnection>,
}

impl WriterConnection {
    /// Not connected yet.
    pub(super) fn new(database: &QueueDatabase) -> Self {
        let options = database.plain().application_name("polar-jobs ingress");
        let limits = match database.pooler {
            Pooler::None => Limits::Session,
            Pooler::Transaction => Limits::None,
        };
        Self {
            options,
            limits,
            open: None,
        }
    }

    /// Gives the connection up: the next use opens another one.
    pub(super) fn give_up(&mut self) {
        self.open = None;
    }

    /// The connection, opened where there is none.
    pub(super) async fn ready(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        Ok(match &mut self.open {
            Some(open) => open,
            closed => closed.insert(connect(&self.options, self.limits).await?),
        })
    }
}

async fn connect(options: &PgConnectOptions, limits: Limits) -> Result<PgConnection, sqlx::Error> {
    let mut connection = options.connect().await?;
    match limits {
        Limits::Session => limit(&mut connection).await?,
        Limits::None => {}
    }
    Ok(connection)
}

async fn limit(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "SELECT set_config('statement_timeout', $1, false) AS statements, set_config('lock_timeout', $2, false) AS locks",
        format!("{STATEMENT_TIMEOUT_MS}ms"),
        format!("{GROUP_LOCK_TIMEOUT_MS}ms"),
    )
    .fetch_one(connection)
    .await
    .map(drop)
}
