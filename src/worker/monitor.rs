//! The apalis side of a process: one apalis worker per queue under one Monitor.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use apalis_core::monitor::{Monitor, MonitorError};
use apalis_core::task::Task;
use apalis_core::worker::builder::WorkerBuilder;
use tower::Service;

use crate::queue::claim::Claimed;

use super::attempt::Runner;
use super::backend::LaneBackend;
use super::ending::{Attempted, Ending, NO_SEAT};
use super::reach::Reach;

/// A queue's worker.
pub(super) struct Post {
    pub(super) queue: String,
    pub(super) backend: LaneBackend,
    pub(super) reach: Reach,
}

/// Runs everything that the backends hand out, until all of them have ended.
///
/// # Errors
/// If an apalis worker ends in any other way; the process must then exit and be started again.
pub(super) async fn run(posts: Vec<Post>, runner: Arc<Runner>) -> Result<(), MonitorError> {
    let mut monitor = Monitor::new();
    for Post {
        queue,
        backend,
        reach,
    } in posts
    {
        let runner = Arc::clone(&runner);
        // The Monitor may ask again to restart a worker; ours are never restarted in process.
        let backend = Mutex::new(Some(backend));
        monitor = monitor.register(move |_| {
            let backend = backend
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            WorkerBuilder::new(queue.as_str())
                .backend(backend.expect("a worker is registered once and never restarted"))
                .build(Attempts {
                    runner: Arc::clone(&runner),
                    reach: reach.clone(),
                })
        });
    }
    monitor.run().await
}

/// The innermost service: one attempt, in a seat.
#[derive(Clone)]
struct Attempts {
    runner: Arc<Runner>,
    reach: Reach,
}

impl Service<Task<Claimed>> for Attempts {
    type Response = Attempted;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Attempted, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, task: Task<Claimed>) -> Self::Future {
        let (runner, reach) = (Arc::clone(&self.runner), self.reach.clone());
        Box::pin(async move {
            let job = &task.args;
            Ok(match reach.seat().await {
                Some(_seat) => runner.run(job).await,
                None => Attempted::Ended(Ending::hand_back(job.id, job.attempt, NO_SEAT)),
            })
        })
    }
}
