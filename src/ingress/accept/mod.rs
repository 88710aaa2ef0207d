//! ONE transaction: the event and the jobs that follow from it are stored together, or neither.
//!
//! Deliveries share commits: what arrives while a commit is under way joins the next statement, so a
//! burst costs few flushes. There is one writer: of two, each would have groups of half the size, and
//! that costs Postgres more than a second connection gives. No delivery waits for an open
//! transaction of the application. A group with a value that Postgres refuses is stored one by one.
//!
//! All database work has a deadline, after which the sender is answered 503. The server-side limit is
//! shorter than ours, so what we gave up on is rolled back there. Only the flush of a commit has
//! no such limit: if that outlasts the deadline the rows may appear after the 503, and the
//! sender's next attempt finds a duplicate.

mod connection;
mod single;
mod store;
mod writer;

use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio::sync::{mpsc, oneshot};

pub(super) use single::SingleWriter;
pub(super) use store::{reserve, store_changes};

use self::connection::WriterConnection;
use super::delivery::Delivery;
use crate::queue::connect::QueueDatabase;
use crate::queue::notifier::Notifier;
use crate::sqlstate::{
    is_lock_timeout, is_permission_missing, is_schema_missing, is_statement_timeout,
};

/// Deliveries that may wait for a writer; more are answered 503 at once.
const QUEUE: usize = 4096;
/// A delivery that waited longer for the writer is answered 503: the database cannot keep up.
const LONGEST_WAIT: Duration = Duration::from_millis(700);
/// One transaction, connecting included.
const DEADLINE: Duration = Duration::from_secs(1);
/// The same, enforced by Postgres, so that nothing is stored after we gave up.
const STATEMENT_TIMEOUT: Duration = Duration::from_millis(800);
/// A whole group does not wait for one lock any longer than this.
const GROUP_LOCK_TIMEOUT: Duration = Duration::from_millis(100);

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accepted {
    /// Stored now.
    Stored,
    /// Stored before; nothing was done.
    Duplicate,
}

/// Nothing was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unavailable {
    #[error("too much is waiting to be stored")]
    Busy,
    #[error("the database does not answer in time")]
    TooSlow,
    #[error("the database cannot be reached")]
    Unreachable,
    #[error("the database has no schema polar_jobs, or an older one: run `polar-jobs migrate`")]
    NoSchema,
    #[error(
        "the role of DATABASE_URL may not write to the schema polar_jobs: run the ingress as the schema's owner"
    )]
    NotGranted,
    #[error("another transaction that is still open holds what this needs: try again")]
    Locked,
    #[error("the database refuses to store this now")]
    Refused,
    #[error("shutting down")]
    Stopping,
}

impl From<&sqlx::Error> for Unavailable {
    fn from(error: &sqlx::Error) -> Self {
        if error.as_database_error().is_none() {
            Self::Unreachable
        } else if is_schema_missing(error) {
            Self::NoSchema
        } else if is_permission_missing(error) {
            Self::NotGranted
        } else if is_lock_timeout(error) {
            Self::Locked
        } else if is_statement_timeout(error) {
            Self::TooSlow
        } else {
            Self::Refused
        }
    }
}

/// A delivery waiting for its commit, and whom to tell.
struct WaitingDelivery {
    delivery: Delivery,
    since: Instant,
    answer: oneshot::Sender<Result<Accepted, Unavailable>>,
}

impl WaitingDelivery {
    /// The sender may be gone by now; then nobody needs the answer.
    fn tell(self, answer: Result<Accepted, Unavailable>) {
        let _sender_gone = self.answer.send(answer);
    }
}

/// The way into the table.
pub(super) struct Acceptor {
    queue: mpsc::Sender<WaitingDelivery>,
    single: SingleWriter,
}

impl Acceptor {
    /// Starts the writer of deliveries, which ends when this is dropped and its queue is empty.
    pub(super) fn start(pool: PgPool, database: &QueueDatabase) -> Self {
        let single = {
            let notifier = Notifier::new(pool.clone(), database.pooler);
            SingleWriter::new(pool, notifier)
        };
        let (queue, arrivals) = mpsc::channel(QUEUE);
        let connection = WriterConnection::new(database);
        tokio::spawn(writer::run(connection, single.clone(), arrivals));
        Self { queue, single }
    }

    /// Stores a delivery; returns after the commit.
    pub(super) async fn deliver(&self, delivery: Delivery) -> Result<Accepted, Unavailable> {
        let (answer, answered) = oneshot::channel();
        let waiting = WaitingDelivery {
            delivery,
            since: Instant::now(),
            answer,
        };
        self.queue
            .try_send(waiting)
            .map_err(|_| Unavailable::Busy)?;
        answered.await.unwrap_or(Err(Unavailable::Stopping))
    }

    /// For what comes with a transaction of its own.
    pub(super) fn single(&self) -> &SingleWriter {
        &self.single
    }
}
