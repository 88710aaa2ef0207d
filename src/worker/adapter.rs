//! The apalis side of a process, and the only file that names apalis: one apalis worker per queue under
//! one Monitor, fed with what the fetchers claimed.
//!
//! The backend and the service never return an error, because an error ends the apalis worker and drops
//! what it runs. Whatever happens to an attempt, exactly one result is pushed.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

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

use super::attempt::Runner;
use super::completion::ResultSink;
use super::fetcher::HandedOut;
use super::result::{AttemptFacts, AttemptResult, BufferedResult, NO_PERMIT, STOPPING};
use super::slots::{Prefetch, RunPermit};

/// How the process ends if an apalis worker does.
pub(super) type Ended = MonitorError;

/// A queue's jobs and what becomes of them.
pub(super) struct QueueRunner {
    pub(super) queue: String,
    pub(super) claimed: mpsc::UnboundedReceiver<HandedOut>,
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
    runner: Arc<Runner>,
    running: mpsc::Sender<Infallible>,
) -> Result<(), Ended> {
    let mut monitor = Monitor::new();
    for queue in queues {
        let attempts = Attempts(Arc::new(AttemptContext {
            runner: Arc::clone(&runner),
            sink: queue.sink,
            _running: running.clone(),
        }));
        // The Monitor may ask again to restart a worker; ours are never restarted in process.
        let backend = Mutex::new(Some(ClaimedJobs {
            claimed: queue.claimed,
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

/// The backend of one queue: gives its jobs in turn, each as soon as it may run. It ends when its fetchers stop
/// claiming.
struct ClaimedJobs {
    claimed: mpsc::UnboundedReceiver<HandedOut>,
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
                    let Some(HandedOut { job, at }) = ready!(self.claimed.poll_recv(context))
                    else {
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

/// What was not begun goes back at once.
impl Drop for ClaimedJobs {
    fn drop(&mut self) {
        self.claimed.close();
        if let Some(next) = self.next.take() {
            self.release(&next.job, STOPPING);
        }
        while let Ok(handed_out) = self.claimed.try_recv() {
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

/// The service: one attempt.
#[derive(Clone)]
struct Attempts(Arc<AttemptContext>);

/// What all attempts of a queue share.
struct AttemptContext {
    runner: Arc<Runner>,
    sink: ResultSink,
    _running: mpsc::Sender<Infallible>,
}

impl Service<Task<Permitted>> for Attempts {
    type Response = ();
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<(), Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, task: Task<Permitted>) -> Self::Future {
        let Permitted { job, permit } = task.args;
        let promise = Arc::new(Promise {
            shared: Arc::clone(&self.0),
            facts: AttemptFacts::of(&job),
            kept: AtomicBool::new(false),
        });
        Box::pin(async move {
            let AttemptContext { runner, sink, .. } = &*promise.shared;
            let (result, took) = runner.run(job, Arc::clone(&promise)).await;
            permit.give_back(took);
            match result {
                // Dropped on the way, the job is released, which after its commit changes nothing. Boxed,
                // so that an attempt that writes nothing does not carry its size.
                AttemptResult::Transactional(result) => {
                    Box::pin(sink.commit_completion(*result)).await;
                }
                AttemptResult::Buffered(result) => sink.push(result),
            }
            promise.kept.store(true, Ordering::Release);
            Ok(())
        })
    }
}

/// Pushes a result even if the future is dropped before it has one, but not before the attempt is gone:
/// who gets the job next must not meet it.
struct Promise {
    // Dropped behind the result.
    shared: Arc<AttemptContext>,
    facts: AttemptFacts,
    kept: AtomicBool,
}

impl Drop for Promise {
    fn drop(&mut self) {
        if !self.kept.load(Ordering::Acquire) {
            let (id, attempt) = (self.facts.id, self.facts.attempt);
            self.shared
                .sink
                .push(BufferedResult::release(id, attempt, STOPPING));
        }
    }
}
