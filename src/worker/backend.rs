//! The apalis backend: hands out what the lanes claimed.
//!
//! It never returns an error, because an error ends the apalis worker and drops what it runs. The
//! lanes deal with the database; this only passes rows on, and ends when the lanes close.

use std::convert::Infallible;
use std::task::{Context, Poll};

use apalis_core::backend::finalize::Ephemeral;
use apalis_core::backend::{Backend, BackendConfig};
use apalis_core::task::Task;
use apalis_core::worker::context::WorkerContext;
use tokio::sync::mpsc;

use crate::queue::claim::Claimed;

use super::acknowledge::AcknowledgeLayer;

/// The claimed rows of one queue.
pub(super) struct LaneBackend {
    pub(super) claimed: mpsc::UnboundedReceiver<Claimed>,
    pub(super) acknowledge: AcknowledgeLayer,
}

impl Backend for LaneBackend {
    type Task = Task<Claimed>;
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
    ) -> Poll<Option<Result<Task<Claimed>, Infallible>>> {
        self.claimed
            .poll_recv(context)
            .map(|claimed| claimed.map(|job| Ok(Task::new(job))))
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

impl BackendConfig for LaneBackend {
    type Args = Claimed;
    type Id = i64;
    type Kind = Ephemeral;
    type Config = ();
    type Layer = AcknowledgeLayer;

    fn config(&self) -> &() {
        &()
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> AcknowledgeLayer {
        self.acknowledge.clone()
    }
}
