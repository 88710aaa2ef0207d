//! Enqueues that share commits: what arrives while a commit is under way joins the next statement.
//! Every caller still waits for its own durable commit.

use std::time::Duration;

use jobs::NewJob;
use sqlx::PgConnection;
use tokio::sync::{mpsc, oneshot};

use super::connect::QueueDatabase;
use super::enqueue;
use super::notifier::Notifier;

/// Jobs per statement at most.
const LARGEST_GROUP: usize = 512;
/// Callers that may wait.
const WAITING: usize = 4096;
/// A statement that takes longer has failed.
const DEADLINE: Duration = Duration::from_secs(5);

type Answer = Result<Option<i64>, EnqueueError>;

/// Why a job was not written.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the job was not written: {0}")]
pub struct EnqueueError(String);

/// See the module. Cheap to clone; the writer ends with the last clone.
#[derive(Clone, Debug)]
pub struct SharedEnqueue {
    callers: mpsc::Sender<(NewJob, oneshot::Sender<Answer>)>,
}

impl SharedEnqueue {
    /// Starts the writer on a connection of its own.
    #[must_use]
    pub fn new(database: QueueDatabase, notifier: Notifier) -> Self {
        let (callers, waiting) = mpsc::channel(WAITING);
        tokio::spawn(write(database, notifier, waiting));
        Self { callers }
    }

    /// Writes one job; `None` where it was merged into a waiting one.
    ///
    /// # Errors
    /// If the database did not take it in time. Whether it did is then unknown, as with every lost
    /// answer; a unique key makes repeating harmless.
    pub async fn enqueue(&self, job: NewJob) -> Answer {
        let (answer, answered) = oneshot::channel();
        let gone = |_| EnqueueError("the writer has ended".to_owned());
        self.callers
            .send((job, answer))
            .await
            .map_err(|_| gone(()))?;
        answered.await.map_err(|_| gone(()))?
    }
}

async fn write(
    database: QueueDatabase,
    notifier: Notifier,
    mut waiting: mpsc::Receiver<(NewJob, oneshot::Sender<Answer>)>,
) {
    let mut connection = None;
    let mut group = Vec::new();
    while waiting.recv_many(&mut group, LARGEST_GROUP).await > 0 {
        let (jobs, answers): (Vec<_>, Vec<_>) = group.drain(..).unzip();
        match tokio::time::timeout(DEADLINE, write_group(&database, &mut connection, &jobs)).await {
            Ok(Ok(ids)) => {
                jobs.iter()
                    .for_each(|job| notifier.notify(job.queue.name()));
                answers
                    .into_iter()
                    .zip(ids)
                    .for_each(|(answer, id)| drop(answer.send(Ok(id))));
            }
            failed => {
                connection = None;
                let reason = match failed {
                    Ok(Err(error)) => error.to_string(),
                    _ => "the database took too long".to_owned(),
                };
                answers
                    .into_iter()
                    .for_each(|answer| drop(answer.send(Err(EnqueueError(reason.clone())))));
            }
        }
    }
}

async fn write_group(
    database: &QueueDatabase,
    connection: &mut Option<PgConnection>,
    jobs: &[NewJob],
) -> Result<Vec<Option<i64>>, sqlx::Error> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(database.connect().await?),
    };
    enqueue::insert_all(connection, jobs).await
}
