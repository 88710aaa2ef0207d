//! The writer's own connection: opened when it is needed, given up at the first sign of trouble,
//! so that a restart of Postgres mends itself.

use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};

use super::store::reserve;
use super::{GROUP_LOCK_TIMEOUT_MS, STATEMENT_TIMEOUT_MS};
use crate::queue::connect::{Pooler, QueueDatabase};

/// Ids are reserved ahead under load, and let go of when they get old, so that the order of ids is
/// the order of arrival to within this time.
const RESERVED_FOR: Duration = Duration::from_secs(1);
const RESERVED_AHEAD: usize = 512;

/// Whether Postgres itself gives up in time.
#[derive(Clone, Copy, Debug)]
enum Limits {
    /// Set once, for the session.
    Session,
    /// Behind a transaction-mode pooler there is no session to set them in: what we gave up on may
    /// still be stored, and the sender's next attempt then finds a duplicate.
    None,
}

/// A connection that may be gone, with the ids reserved on it.
pub(super) struct WriterConnection {
    options: PgConnectOptions,
    limits: Limits,
    open: Option<PgConnection>,
    reserved: Vec<i64>,
    reserved_at: Instant,
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
            reserved: Vec::new(),
            reserved_at: Instant::now(),
        }
    }

    /// Gives the connection up: the next use opens another one.
    pub(super) fn give_up(&mut self) {
        self.open = None;
    }

    /// The connection, and ids for so many events.
    pub(super) async fn ready(
        &mut self,
        events: usize,
    ) -> Result<(&mut PgConnection, Vec<i64>), sqlx::Error> {
        let connection = match &mut self.open {
            Some(open) => open,
            closed => closed.insert(connect(&self.options, self.limits).await?),
        };
        if self.reserved.len() < events || self.reserved_at.elapsed() > RESERVED_FOR {
            self.reserved = reserve(connection, events.max(RESERVED_AHEAD)).await?;
            self.reserved_at = Instant::now();
            self.reserved.reverse();
        }
        let left = self.reserved.len() - events;
        let mut ids = self.reserved.split_off(left);
        ids.reverse();
        Ok((connection, ids))
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
