//! Where the result of an attempt goes: most wait for the next commit of a fetcher, those with local writes or follow-ups
//! are stored at once, in a transaction of their own.

use std::sync::Arc;
use std::time::Duration;

use jobs::contract::{begin, in_time};
use sqlx::PgPool;

use crate::queue::finish;
use crate::queue::notifier::Notifier;
use crate::sqlstate::is_statement_at_fault;

use super::attempt::AttemptRunner;
use super::completion_buffer::CompletionBuffer;
use super::held_jobs::HeldJobs;
use super::lease_keeper::IdleState;
use super::result::{BufferedResult, NOT_STORED, TransactionalCompletion};
use super::slots::Slots;

/// Until a job is run again whose completion the database did not take.
const NOT_STORED_DELAY: Duration = Duration::from_secs(1);

/// A completion with what it writes.
const STORE_TIMEOUT: Duration = Duration::from_secs(30);

/// Takes the results of one queue: buffers them, or stores at once what must be committed with a
/// completion. The job's transaction is open: if it waited for a fetcher, and the fetcher for a
/// connection that such transactions hold all of, neither would go on.
#[derive(Clone)]
pub(super) struct ResultSink {
    pub(super) worker: i64,
    pub(super) pool: PgPool,
    pub(super) notifier: Notifier,
    pub(super) runner: Arc<AttemptRunner>,
    pub(super) held: Arc<HeldJobs>,
    pub(super) buffer: Arc<CompletionBuffer>,
    pub(super) idle: Arc<IdleState>,
    pub(super) slots: Slots,
    /// Whether somebody waits for the queue to be empty.
    pub(super) drain: bool,
}

impl ResultSink {
    /// Buffers a result. True if that woke a fetcher.
    pub(super) fn push(&self, result: BufferedResult) -> bool {
        self.buffer.push(result)
    }

    /// Commits a completion with its local writes and follow-ups.
    ///
    /// If the database fails, local writes are gone with their transaction, so the job is released to
    /// be run again; a commit whose answer was lost makes that a no-op by the fence.
    pub(super) async fn commit_completion(&self, result: TransactionalCompletion) {
        let TransactionalCompletion {
            completion,
            next,
            transaction,
            facts,
            retry,
        } = result;
        let stored = in_time(STORE_TIMEOUT, async {
            let transaction = match transaction {
                Some(transaction) => transaction,
                None => begin(&self.pool).await?,
            };
            finish::complete_with(transaction, self.worker, &completion, &next).await
        });
        let error = match stored.await {
            Ok(_) => {
                for job in &next {
                    self.notifier.notify(job.queue.name());
                }
                let released = self.held.remove([(completion.id, completion.attempt)]);
                self.slots.give(1);
                if released || self.drain {
                    self.idle.wake();
                }
                return;
            }
            Err(error) => error,
        };
        tracing::warn!(%error, "a completion could not be stored");
        self.push(if is_statement_at_fault(&error) {
            self.runner.refused(facts, retry, &error)
        } else {
            BufferedResult::release_after(
                NOT_STORED_DELAY,
                completion.id,
                completion.attempt,
                NOT_STORED,
            )
        });
    }
}
