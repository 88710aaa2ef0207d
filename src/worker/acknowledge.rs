//! The outermost layer around every job: whatever happens inside, exactly one ending is left on the
//! desk, or stored here where a transaction is open. A panic is a failure; a future that is dropped
//! hands its job back.

use std::any::Any;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use apalis_core::task::Task;
use futures::FutureExt;
use tower::{Layer, Service};

use crate::queue::claim::Claimed;

use super::attempt::Runner;
use super::desk::Desk;
use super::ending::{Attempted, Ending, STOPPING};
use super::facts::AttemptFacts;
use super::settle::Settler;

/// See the module.
#[derive(Clone)]
pub(super) struct AcknowledgeLayer {
    pub(super) settler: Settler,
    pub(super) runner: Arc<Runner>,
}

/// See the module.
#[derive(Clone)]
pub(super) struct Acknowledge<S> {
    inner: S,
    layer: AcknowledgeLayer,
}

impl<S> Layer<S> for AcknowledgeLayer {
    type Service = Acknowledge<S>;

    fn layer(&self, inner: S) -> Acknowledge<S> {
        Acknowledge {
            inner,
            layer: self.clone(),
        }
    }
}

impl<S, E> Service<Task<Claimed>> for Acknowledge<S>
where
    S: Service<Task<Claimed>, Response = Attempted, Error = E>,
    S::Future: Send + 'static,
    E: std::fmt::Display,
{
    type Response = ();
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<(), Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // The services inside are always ready; an error of theirs would show in `call`.
        self.inner.poll_ready(context).map(|_| Ok(()))
    }

    fn call(&mut self, task: Task<Claimed>) -> Self::Future {
        let facts = AttemptFacts::of(&task.args);
        let kind = task.args.kind.clone();
        let runner = Arc::clone(&self.layer.runner);
        let settler = self.layer.settler.clone();
        let mut promise = Promise {
            desk: Arc::clone(&settler.desk),
            facts,
            kept: false,
        };
        let work = AssertUnwindSafe(self.inner.call(task)).catch_unwind();
        Box::pin(async move {
            let attempted = match work.await {
                Ok(Ok(attempted)) => attempted,
                Ok(Err(error)) => runner.panicked(&kind, facts, &error.to_string()),
                Err(panic) => runner.panicked(&kind, facts, panic_message(&*panic)),
            };
            match attempted {
                // Dropped on the way, the job is handed back, which after its commit changes nothing.
                Attempted::Within(within) => {
                    settler.settle(*within).await;
                    promise.is_kept();
                }
                Attempted::Ended(ending) => promise.keep(ending),
            }
            Ok(())
        })
    }
}

/// Leaves an ending even if the future is dropped before it has one.
struct Promise {
    desk: Arc<Desk>,
    facts: AttemptFacts,
    kept: bool,
}

impl Promise {
    fn keep(&mut self, ending: Ending) {
        self.is_kept();
        self.desk.leave(ending);
    }

    /// The ending is stored, or left already.
    fn is_kept(&mut self) {
        self.kept = true;
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if !self.kept {
            let (id, attempt) = (self.facts.id, self.facts.attempt);
            self.desk.leave(Ending::hand_back(id, attempt, STOPPING));
        }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}
