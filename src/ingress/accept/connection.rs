//! The writer's own connection: opened when it is needed, given up at the first error,
//! so that nothing is left to repair after a restart of Postgres.

use sqlx::{ConnectOptions, PgConnection};

use super::{GROUP_LOCK_TIMEOUT, STATEMENT_TIMEOUT};
use crate::queue::connect::{Pooler, QueueDatabase};

/// A connection that may be gone.
pub(super) struct WriterConnection {
    database: QueueDatabase,
    open: Option<PgConnection>,
}

impl WriterConnection {
    /// Not connected yet.
    pub(super) fn new(database: &QueueDatabase) -> Self {
        Self {
            database: database.clone(),
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
            closed => closed.insert(connect(&self.database).await?),
        })
    }
}

async fn connect(database: &QueueDatabase) -> Result<PgConnection, sqlx::Error> {
    let options = database.plain().application_name("polar-jobs ingress");
    let mut connection = options.connect().await?;
    match database.pooler {
        Pooler::None => limit(&mut connection).await?,
        // There is no session to set limits in: what we gave up on may still be stored, and the sender's next attempt
        // then finds a duplicate.
        Pooler::Transaction => {}
    }
    Ok(connection)
}

/// By a statement: a pooler that gives us a session may ignore options of the connection.
async fn limit(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "SELECT set_config('statement_timeout', $1, false) AS statements, set_config('lock_timeout', $2, false) AS locks",
        format!("{}ms", STATEMENT_TIMEOUT.as_millis()),
        format!("{}ms", GROUP_LOCK_TIMEOUT.as_millis()),
    )
    .fetch_one(connection)
    .await
    .map(drop)
}
