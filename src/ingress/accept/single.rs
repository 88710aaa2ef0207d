//! One transaction for one request: for changes, which are all or nothing, and for deliveries that
//! would have held up their group.

use std::sync::Arc;
use std::time::Duration;

use jobs::contract::{Queue, begin};
use sqlx::{PgPool, Postgres, Transaction};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::store::store_deliveries;
use super::{Accepted, Unavailable, WaitingDelivery};
use crate::ingress::delivery::Delivery;
use crate::ingress::row::Row;
use crate::ingress::server_probe::ServerProbe;
use crate::queue::notifier::Notifier;
use crate::sqlstate::is_unstorable;

/// Single deliveries at once: enough to wait for a few locks without taking the pool from changes.
const AT_ONCE: usize = 4;
/// One transaction, the wait for a permit included.
const DEADLINE: Duration = Duration::from_secs(1);
const STATEMENT_TIMEOUT: Duration = Duration::from_millis(900);
const LOCK_TIMEOUT: Duration = Duration::from_millis(600);

/// The way for requests that come with a transaction of their own.
#[derive(Clone)]
pub(in crate::ingress) struct SingleWriter {
    pool: PgPool,
    notifier: Notifier,
    permits: Arc<Semaphore>,
    long_changes: Arc<Semaphore>,
    waiting_changes: Arc<Semaphore>,
    server: ServerProbe,
}

impl SingleWriter {
    pub(super) fn new(pool: PgPool, notifier: Notifier) -> Self {
        let connections = usize::try_from(pool.options().get_max_connections()).unwrap_or(1);
        let all_but_one = || Arc::new(Semaphore::new(connections.saturating_sub(1).max(1)));
        Self {
            server: ServerProbe::of(pool.clone()),
            pool,
            notifier,
            permits: Arc::new(Semaphore::new(AT_ONCE)),
            long_changes: all_but_one(),
            waiting_changes: all_but_one(),
        }
    }

    /// Waits until changes that keep a connection for long may have one.
    pub(in crate::ingress) async fn long_change(&self) -> SemaphorePermit<'_> {
        permit(&self.long_changes).await
    }

    /// Waits until changes that another transaction holds up may wait for it with a connection.
    pub(in crate::ingress) async fn waiting_change(&self) -> SemaphorePermit<'_> {
        permit(&self.waiting_changes).await
    }

    /// Begins a transaction whose statements and waits are bounded.
    pub(in crate::ingress) async fn begin(
        &self,
        statement_timeout: Duration,
        lock_timeout: Duration,
    ) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        let mut transaction = begin(&self.pool).await?;
        sqlx::query!(
            "SELECT set_config('statement_timeout', $1, true) AS statements, set_config('lock_timeout', $2, true) AS locks",
            format!("{}ms", statement_timeout.as_millis()),
            format!("{}ms", lock_timeout.as_millis()),
        )
        .fetch_one(&mut *transaction)
        .await?;
        Ok(transaction)
    }

    /// What to answer after a deadline.
    pub(in crate::ingress) async fn why_too_late(&self) -> Unavailable {
        if self.server.refuses().await {
            Unavailable::Unreachable
        } else {
            Unavailable::TooSlow
        }
    }

    /// Notifies sleeping workers of the jobs of rows just committed. For those that were there before
    /// it notifies in vain, which costs nothing.
    pub(in crate::ingress) fn notify_for(&self, rows: &[Row<'_>]) {
        for queue in Queue::ALL {
            if rows
                .iter()
                .any(|row| row.jobs.iter().any(|job| job.queue == queue))
            {
                self.notifier.notify(queue.name());
            }
        }
    }

    /// Stores one delivery and tells its sender, without making the caller wait.
    pub(super) fn deliver(&self, waiting: WaitingDelivery) {
        let single = self.clone();
        tokio::spawn(async move {
            let answer = timeout(DEADLINE, single.store(&waiting.delivery)).await;
            waiting.tell(answer.unwrap_or(Err(Unavailable::TooSlow)));
        });
    }

    async fn store(&self, delivery: &Delivery) -> Result<Accepted, Unavailable> {
        let _permit = self
            .permits
            .acquire()
            .await
            .map_err(|_| Unavailable::Stopping)?;
        let stored = match self.transact(delivery.row()).await {
            // The partition that the row was for may have lost its place while the row waited: another
            // transaction finds the new one.
            Err(error) if is_unstorable(&error) => self.transact(delivery.row()).await,
            stored => stored,
        };
        let refused = match stored {
            Ok(accepted) => return Ok(accepted),
            Err(error) => error,
        };
        if !is_unstorable(&refused) {
            tracing::warn!(error = %refused, "a delivery was not stored");
            return Err(Unavailable::from(&refused));
        }
        tracing::error!(error = %refused, "the jobs of a delivery cannot be stored; it is kept as failed");
        self.transact(delivery.unroutable_row())
            .await
            .map_err(|error| {
                tracing::error!(%error, "a delivery cannot be stored at all");
                Unavailable::from(&error)
            })
    }

    async fn transact(&self, row: Row<'_>) -> Result<Accepted, sqlx::Error> {
        let mut transaction = self.begin(STATEMENT_TIMEOUT, LOCK_TIMEOUT).await?;
        let rows = [row];
        let stored = store_deliveries(&mut transaction, &rows).await?;
        transaction.commit().await?;
        self.notify_for(&rows);
        Ok(match stored[..] {
            [true] => Accepted::Stored,
            _ => Accepted::Duplicate,
        })
    }
}

async fn permit(permits: &Semaphore) -> SemaphorePermit<'_> {
    permits
        .acquire()
        .await
        .expect("nobody closes these semaphores")
}
