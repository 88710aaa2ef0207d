//! Stores endings that need more than a place in the next batch.

use std::sync::Arc;

use sqlx::PgPool;

use crate::queue::bell::Bell;
use crate::queue::finish::{self, Return};

use super::desk::Desk;
use super::ending::{Ending, Within};

/// Commits a completion with its local writes and follow-ups, on a connection of the pool so that
/// no lane waits for it. Returns true if the row's end is stored (or was not ours any more).
///
/// If the database fails, local writes are gone with their transaction, so the job is handed back
/// to be run again; a commit whose answer was lost makes that a no-op by the fence.
pub(super) async fn within(
    pool: PgPool,
    worker: i64,
    within: Within,
    desk: Arc<Desk>,
    bell: Bell,
) -> bool {
    let Within {
        completion,
        next,
        transaction,
    } = within;
    let (id, attempt) = (completion.id, completion.attempt);
    let stored = async {
        let transaction = match transaction {
            Some(transaction) => transaction,
            None => pool.begin().await?,
        };
        finish::complete_with(transaction, worker, &completion, &next).await
    };
    match stored.await {
        Ok(_) => {
            for job in &next {
                bell.ring(job.queue.name());
            }
            true
        }
        Err(error) => {
            tracing::warn!(job = id, %error, "a completion could not be stored, the job will run again");
            let note = Some("its completion could not be stored".to_owned());
            desk.leave(Ending::Return(Return {
                id,
                attempt,
                delay: 1.0,
                failure: None,
                note,
            }));
            false
        }
    }
}
