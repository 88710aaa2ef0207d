//! Stores completions that need more than a place in the next batch.

use std::sync::Arc;

use jobs::contract::begin;

use crate::queue::finish::{self, Return};

use super::desk::Desk;
use super::ending::{Ending, Within};
use super::keeper::Bed;
use super::lane::Shared;
use super::slots::Slots;

/// Stores what must be committed with a completion as soon as the job is done. The job's
/// transaction is open: if it waited for a lane, and the lane for a connection that such
/// transactions hold all of (behind a pooler that has fewer than there are slots), neither would go on.
#[derive(Clone)]
pub(super) struct Settler {
    pub(super) shared: Arc<Shared>,
    pub(super) desk: Arc<Desk>,
    pub(super) bed: Arc<Bed>,
    pub(super) slots: Slots,
}

impl Settler {
    /// See [`Settler`].
    pub(super) async fn settle(&self, ending: Within) {
        let claim = (ending.completion.id, ending.completion.attempt);
        if within(&self.shared, ending, &self.desk).await {
            if self.desk.forget([claim]) {
                self.bed.wake();
            }
            self.slots.give(1);
        }
    }
}

/// Commits a completion with its local writes and follow-ups, on a connection of the pool so that
/// no lane waits for it. Returns true if the row's end is stored (or was not ours any more).
///
/// If the database fails, local writes are gone with their transaction, so the job is handed back
/// to be run again; a commit whose answer was lost makes that a no-op by the fence.
async fn within(shared: &Shared, within: Within, desk: &Desk) -> bool {
    let Within {
        completion,
        next,
        transaction,
        facts,
        retry,
    } = within;
    let stored = async {
        let transaction = match transaction {
            Some(transaction) => transaction,
            None => begin(&shared.pool).await?,
        };
        finish::complete_with(transaction, shared.worker, &completion, &next).await
    };
    let error = match stored.await {
        Ok(_) => {
            for job in &next {
                shared.bell.ring(job.queue.name());
            }
            return true;
        }
        Err(error) => error,
    };
    tracing::warn!(job = completion.id, %error, "a completion could not be stored");
    let ending = if is_refusal(&error) {
        shared.runner.refused(facts, retry, &error)
    } else {
        Ending::Return(Return {
            id: completion.id,
            attempt: completion.attempt,
            delay: 1.0,
            failure: None,
            note: Some("its completion could not be stored".to_owned()),
        })
    };
    desk.leave(ending);
    false
}

/// SQLSTATE classes 22 (data), 23 (integrity) and 42 (names, rights): the statement is at fault, not
/// the moment. <https://www.postgresql.org/docs/current/errcodes-appendix.html>
fn is_refusal(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .is_some_and(|code| {
            ["22", "23", "42"]
                .iter()
                .any(|class| code.starts_with(class))
        })
}
