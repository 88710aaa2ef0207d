//! The apalis side of a process, and the only file that names apalis: one apalis worker per queue under
//! one Monitor, fed with what the fetchers claimed.
//!
//! The backend and the service never return an error, because an error ends the apalis worker and drops
//! what it runs. Whatever happens to an attempt, exactly one result is pushed.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use apalis_core::backend::finalize::Ephemeral;
use apalis_core::backend::{Backend, BackendConfig};
use apalis_core::monitor::{Monitor, MonitorError};
use apalis_core::task::Task;
use apalis_core::worker::builder::WorkerBuilder;
use apalis_core::worker::context::WorkerContext;
use tokio::sync::mpsc;
use tower::Service;
use tower::layer::util::Identity;

use crate::queue::claim::Claimed;

use super::attempt::AttemptRunner;
use super::fetcher::ClaimedJob;
use super::prefetch::{Prefetch, RunPermit};
use super::result::{AttemptResult, BufferedResult, NO_PERMIT, PANICKED, STOPPING};
use super::result_sink::ResultSink;
use super::watched::Watched;

/// A permit serves further jobs for so long.
const PERMIT_KEPT: Duration = Duration::from_millis(1);
/// Until a job runs again whose task ended because the worker itself panicked.
const PANIC_DELAY: Duration = Duration::from_secs(60);

/// How the process ends if an apalis worker does.
pub(super) type Ended = MonitorError;

/// A queue's jobs and what becomes of them.
pub(super) struct QueueRunner {
    pub(super) queue: String,
    pub(super) claimed: mpsc::UnboundedReceiver<ClaimedJob>,
    pub(super) prefetch: Prefetch,
    pub(super) sink: ResultSink,
}

/// Runs everything that was claimed, until all queues have ended. `running` is closed once nothing of any
/// attempt runs any more, also if this is dropped before.
///
/// # Errors
/// If an apalis worker ends in any other way; the process must then exit and be started again.
pub(super) async fn run(
    queues: Vec<QueueRunner>,
    runner: Arc<AttemptRunner>,
    running: mpsc::Sender<Infallible>,
) -> Result<(), Ended> {
    let mut monitor = Monitor::new();
    for queue in queues {
        let attempts = Attempts(Arc::new(AttemptContext {
            claimed: Mutex::new(queue.claimed),
            runner: Arc::clone(&runner),
            sink: queue.sink,
            _running: running.clone(),
        }));
        // The Monitor may ask again to restart a worker; ours are never restarted in process.
        let backend = Mutex::new(Some(ClaimedJobs {
            prefetch: queue.prefetch,
            next: None,
            shared: Arc::clone(&attempts.0),
        }));
        let name = queue.queue;
        monitor = monitor.register(move |_| {
            let backend = backend
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            WorkerBuilder::new(name.as_str())
                .backend(backend.expect("a worker is registered once and never restarted"))
                .build(attempts.clone())
        });
    }
    monitor.run().await
}

/// A job that may run.
struct Permitted {
    job: Claimed,
    permit: RunPermit,
}

/// The apalis backend of one queue: yields its jobs in order, each once it has a permit. A running task may take further
/// jobs from the same channel itself. Ends when the queue's fetchers stop claiming.
struct ClaimedJobs {
    prefetch: Prefetch,
    next: Option<Next>,
    shared: Arc<AttemptContext>,
}

/// The job whose turn it is, and the permit that it waits for.
struct Next {
    job: Claimed,
    permit: Pin<Box<dyn Future<Output = Option<RunPermit>> + Send>>,
}

impl ClaimedJobs {
    fn release(&self, job: &Claimed, note: &str) {
        let released = BufferedResult::release(job.id, job.attempt, note);
        self.shared.sink.push(released);
    }
}

impl Backend for ClaimedJobs {
    type Task = Task<Permitted>;
    type Error = Infallible;

    fn poll_ready(
        &mut self,
        _: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Option<Result<Task<Permitted>, Infallible>>> {
        loop {
            let mut next = match self.next.take() {
                Some(next) => next,
                None => {
                    let claimed = ready!(self.shared.claimed().poll_recv(context));
                    let Some(ClaimedJob { job, at }) = claimed else {
                        return Poll::Ready(None);
                    };
                    if let Some(permit) = self.prefetch.permit_now() {
                        return Poll::Ready(Some(Ok(Task::new(Permitted { job, permit }))));
                    }
                    let permit = Box::pin(self.prefetch.clone().permit_soon(at));
                    Next { job, permit }
                }
            };
            match next.permit.as_mut().poll(context) {
                Poll::Pending => {
                    self.next = Some(next);
                    return Poll::Pending;
                }
                Poll::Ready(Some(permit)) => {
                    let job = next.job;
                    return Poll::Ready(Some(Ok(Task::new(Permitted { job, permit }))));
                }
                Poll::Ready(None) => self.release(&next.job, NO_PERMIT),
            }
        }
    }

    fn poll_close(
        &mut self,
        _: &mut Context<'_>,
        worker: &WorkerContext,
    ) -> Poll<Result<(), Infallible>> {
        // A backend that has run dry does not end its worker; only a stopped one ends. An error here
        // means that it is stopped already.
        drop(worker.stop());
        Poll::Ready(Ok(()))
    }
}

/// What was not begun is requeued at once.
impl Drop for ClaimedJobs {
    fn drop(&mut self) {
        let mut claimed = self.shared.claimed();
        claimed.close();
        if let Some(next) = self.next.take() {
            self.release(&next.job, STOPPING);
        }
        while let Ok(handed_out) = claimed.try_recv() {
            self.release(&handed_out.job, STOPPING);
        }
    }
}

impl BackendConfig for ClaimedJobs {
    type Args = Permitted;
    type Id = i64;
    type Kind = Ephemeral;
    type Config = ();
    type Layer = Identity;

    fn config(&self) -> &() {
        &()
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> Identity {
        Identity::new()
    }
}

/// The service: one attempt, and further ones while jobs are short.
#[derive(Clone)]
struct Attempts(Arc<AttemptContext>);

/// What all attempts of a queue share.
struct AttemptContext {
    claimed: Mutex<mpsc::UnboundedReceiver<ClaimedJob>>,
    runner: Arc<AttemptRunner>,
    sink: ResultSink,
    _running: mpsc::Sender<Infallible>,
}

impl AttemptContext {
    fn claimed(&self) -> MutexGuard<'_, mpsc::UnboundedReceiver<ClaimedJob>> {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a job, and for a moment those that wait for a permit: a task and a permit for each of them would cost more
    /// than short jobs do. Its result is owed from this call on, also if the future is dropped unpolled.
    fn run(
        self: Arc<Self>,
        first: Permitted,
        watched: Arc<Watched>,
    ) -> impl Future<Output = ()> + Send {
        let Permitted { mut job, permit } = first;
        let mut promise = Promise::of(Arc::clone(&self), &job);
        async move {
            let shared = self;
            let begun = Instant::now();
            loop {
                let mut polls = 0;
                let mut attempt = pin!(shared.runner.run(job, &watched));
                let (result, took) = poll_fn(|context| {
                    polls += 1;
                    attempt.as_mut().poll(context)
                })
                .await;
                permit.ran(took);
                let woke = match result {
                    AttemptResult::Transactional(result) => {
                        drop(permit);
                        // Dropped on the way, the job is released, which after its commit changes nothing. Boxed,
                        // so that an attempt that writes nothing does not carry its size.
                        Box::pin(shared.sink.commit_completion(*result)).await;
                        promise.keep();
                        return;
                    }
                    AttemptResult::Buffered(result) => shared.sink.push(result),
                };
                promise.keep();
                // What was woken here is next on this thread, and no other thread takes it from there. It must not
                // wait for a job that blocks the thread.
                if woke || polls > 1 || begun.elapsed() >= PERMIT_KEPT {
                    return;
                }
                let Ok(next) = shared.claimed().try_recv() else {
                    return;
                };
                job = next.job;
                promise.owe(&job);
            }
        }
    }
}

impl Service<Task<Permitted>> for Attempts {
    type Response = ();
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<(), Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    /// On a task of its own: a job that computes without awaiting must block neither the other jobs of the queue nor the
    /// watch over its timeout.
    fn call(&mut self, task: Task<Permitted>) -> Self::Future {
        let watched = Arc::new(Watched::default());
        let running = Arc::clone(&self.0).run(task.args, Arc::clone(&watched));
        Box::pin(async move {
            watched.until_end(tokio::spawn(running)).await;
            Ok(())
        })
    }
}

/// Pushes a result even if the future is dropped before it has one, but not before the attempt is gone:
/// who gets the job next must not meet it.
struct Promise {
    shared: Arc<AttemptContext>,
    /// The row and the attempt.
    owed: Option<(i64, i32)>,
}

impl Promise {
    fn of(shared: Arc<AttemptContext>, job: &Claimed) -> Self {
        let owed = Some((job.id, job.attempt));
        Self { shared, owed }
    }

    fn owe(&mut self, job: &Claimed) {
        self.owed = Some((job.id, job.attempt));
    }

    fn keep(&mut self) {
        self.owed = None;
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        let Some((id, attempt)) = self.owed else {
            return;
        };
        self.shared.sink.push(if std::thread::panicking() {
            BufferedResult::release_after(PANIC_DELAY, id, attempt, PANICKED)
        } else {
            BufferedResult::release(id, attempt, STOPPING)
        });
    }
}
