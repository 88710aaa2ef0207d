//! A request's changes, their jobs and its readings in one transaction.

use std::time::Duration;

use jobs::ApplyChange;
use jobs::mirror::{costs, usage};
use tokio::time::timeout;

use super::batch::{Batch, ToApply};
use crate::ingress::accept::{SingleWriter, Unavailable, reserve, store_changes};
use crate::ingress::row::Row;
use crate::sqlstate::sqlstate;

/// One change has a second, ten thousand have eleven.
const DEADLINE: Duration = Duration::from_secs(1);
const DEADLINE_PER_CHANGE: Duration = Duration::from_millis(1);
/// The SQLSTATE that `polar_jobs.lock_changed` raises with a message for the caller.
const RAISED_BY_LOCK_CHANGED: &str = "PJ001";
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
    let deadline = DEADLINE + DEADLINE_PER_CHANGE * many;
    match timeout(deadline, transact(single, batch, deadline - SOONER)).await {
        Ok(Ok(accepted)) => Ok(accepted),
        Ok(Err(error)) => {
            tracing::warn!(%error, changes = batch.len(), "changes were not stored");
            Err(match error.as_database_error() {
                Some(held) if sqlstate(&error).as_deref() == Some(RAISED_BY_LOCK_CHANGED) => {
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

async fn transact(
    single: &SingleWriter,
    batch: &Batch,
    statement_timeout: Duration,
) -> Result<usize, sqlx::Error> {
    let mut transaction = single
        .begin(&format!("{}ms", statement_timeout.as_millis()))
        .await?;
    let ids = reserve(&mut transaction, batch.changes.len()).await?;
    let rows: Vec<Row<'_>> = batch
        .changes
        .iter()
        .zip(ids)
        .map(|(change, id)| row(change, id))
        .collect();
    let changes = match rows.as_slice() {
        [] => 0,
        rows => store_changes(&mut transaction, rows).await?,
    };
    let usage = usage::record_all(&mut transaction, &batch.usage).await?;
    let costs = costs::record_all(&mut transaction, &batch.costs).await?;
    transaction.commit().await?;
    single.notify_for(&rows);
    Ok(changes + usize::try_from(usage.accepted + costs.accepted).unwrap_or(usize::MAX))
}

pub(in crate::ingress) fn row(change: &ToApply, id: i64) -> Row<'_> {
    Row {
        id,
        external_id: change.id.as_deref(),
        event_type: Some(change.change.type_name()),
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
