//! A request's changes, their jobs and its readings in one transaction.
//!
//! Requests that wait for a transaction of the application, which may stay open for hours, must not use up the few
//! connections. A request first tries for a moment; where it is blocked it gives its connection back and waits for one of
//! the permits of waiting changes, of which there is one fewer than connections. Batches, which keep a connection for long,
//! are limited in the same way. Both together may use every connection, but a turn is short, so one comes free several times
//! a second.

use std::time::Duration;

use jobs::ApplyChange;
use jobs::mirror::{costs, usage};
use sqlx::PgConnection;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};

use super::batch::{Batch, ToApply};
use crate::ingress::accept::{SingleWriter, Unavailable, reserve, store_changes};
use crate::ingress::row::Row;
use crate::sqlstate::{is_held, is_held_by_application};

/// One change has a second, ten thousand have eleven.
const DEADLINE: Duration = Duration::from_secs(1);
const DEADLINE_PER_CHANGE: Duration = Duration::from_millis(1);
/// A request with more changes than this is a batch.
const FEW: usize = 100;
/// How long a batch waits for what another transaction holds.
const LOCK_TIMEOUT: Duration = Duration::from_millis(600);
/// How long other requests wait for that with a connection: enough for another one about the same organization to
/// commit.
const LOOK_TIMEOUT: Duration = Duration::from_millis(10);
/// How long they do when it is their turn to wait.
const TURN_TIMEOUT: Duration = Duration::from_millis(100);
/// No turn begins later. Until it does, a request takes nothing from anybody.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// A turn, the commit included.
const TURN_DEADLINE: Duration = Duration::from_millis(500);
/// Postgres gives up so much sooner than we do, so that a 503 means that nothing was stored.
const SOONER: Duration = Duration::from_millis(100);

/// Why nothing was stored.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotStored {
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// A transaction of the application is still open that changed the same organization or user; the
    /// text names it.
    #[error("{0}")]
    Held(String),
}

/// Stores everything or nothing; returns how many were new.
pub(super) async fn store(single: &SingleWriter, batch: &Batch) -> Result<usize, NotStored> {
    let many = u32::try_from(batch.len()).unwrap_or(u32::MAX);
    let deadline = Instant::now() + DEADLINE + DEADLINE_PER_CHANGE * many;
    let stored = if batch.len() > FEW {
        timeout_at(deadline, store_long(single, batch, deadline)).await
    } else {
        store_in_turn(single, batch, deadline).await
    };
    match stored {
        Ok(Ok(accepted)) => Ok(accepted),
        Ok(Err(error)) => {
            tracing::warn!(%error, changes = batch.len(), "changes were not stored");
            Err(match error.as_database_error() {
                Some(held) if is_held_by_application(&error) => {
                    NotStored::Held(held.message().to_owned())
                }
                _ => Unavailable::from(&error).into(),
            })
        }
        Err(_) => {
            let reason = single.why_too_late().await;
            tracing::warn!(%reason, changes = batch.len(), "changes were not stored");
            Err(reason.into())
        }
    }
}

/// Stores a batch, on one of the connections that batches may have.
async fn store_long(
    single: &SingleWriter,
    batch: &Batch,
    deadline: Instant,
) -> Result<usize, sqlx::Error> {
    let _permit = single.long_change().await;
    transact(single, batch, deadline, LOCK_TIMEOUT).await
}

/// Stores a few changes, which wait without a connection until it is their turn to wait with one.
async fn store_in_turn(
    single: &SingleWriter,
    batch: &Batch,
    deadline: Instant,
) -> Result<Result<usize, sqlx::Error>, Elapsed> {
    let last_turn = Instant::now() + LONGEST_WAIT;
    let look = transact(single, batch, deadline, LOOK_TIMEOUT);
    let mut stored = timeout_at(deadline, look).await?;
    while let Err(error) = &stored
        && is_held(error)
        && Instant::now() < last_turn
    {
        let Ok(_permit) = timeout_at(last_turn, single.waiting_change()).await else {
            break;
        };
        let deadline = Instant::now() + TURN_DEADLINE;
        let turn = transact(single, batch, deadline, TURN_TIMEOUT);
        stored = timeout_at(deadline, turn).await?;
    }
    Ok(stored)
}

async fn transact(
    single: &SingleWriter,
    batch: &Batch,
    deadline: Instant,
    lock_timeout: Duration,
) -> Result<usize, sqlx::Error> {
    let left = deadline.saturating_duration_since(Instant::now());
    // None at all would be no limit.
    let statement_timeout = left.saturating_sub(SOONER).max(Duration::from_millis(1));
    let mut transaction = single.begin(statement_timeout, lock_timeout).await?;
    let rows = rows(&mut transaction, batch).await?;
    let accepted = store_rows(&mut transaction, batch, &rows).await?;
    transaction.commit().await?;
    single.notify_for(&rows);
    Ok(accepted)
}

/// Returns the rows of the changes that jobs will apply. Their ids are reserved and their subjects locked until the
/// caller's transaction ends.
pub(in crate::ingress) async fn rows<'a>(
    connection: &mut PgConnection,
    batch: &'a Batch,
) -> Result<Vec<Row<'a>>, sqlx::Error> {
    let ids = reserve(connection, &batch.subjects(), batch.changes.len()).await?;
    let changes = batch.changes.iter().zip(ids);
    Ok(changes.map(|(change, id)| row(change, id)).collect())
}

/// Stores a batch in the caller's transaction: [`rows`] made of it, and its readings. Returns how many were new.
pub(in crate::ingress) async fn store_rows(
    connection: &mut PgConnection,
    batch: &Batch,
    rows: &[Row<'_>],
) -> Result<usize, sqlx::Error> {
    let changes = match rows {
        [] => 0,
        rows => store_changes(connection, rows).await?,
    };
    let usage = usage::record_all(connection, &batch.usage).await?;
    let costs = costs::record_all(connection, &batch.costs).await?;
    Ok(changes + usize::try_from(usage.accepted + costs.accepted).unwrap_or(usize::MAX))
}

fn row(change: &ToApply, id: i64) -> Row<'_> {
    Row {
        id,
        external_id: change.id.as_deref(),
        event_type: Some(change.change.change_type().as_str()),
        occurred_at: change.occurred_at,
        change: Some(&change.data),
        body: None,
        organization: None,
        customer: None,
        outcome: None,
        jobs: ApplyChange::for_event(id, &change.change)
            .into_iter()
            .collect(),
    }
}
