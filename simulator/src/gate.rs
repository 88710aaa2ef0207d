//! Why: races are tested by making them happen. A gate holds matching requests before or after their commit and lets
//! them go one by one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

/// Which requests a [`Gate`] holds, and where.
#[derive(Debug, Clone)]
pub struct RequestMatch {
    method: Option<String>,
    path: String,
    point: Point,
}

/// Where in its course a request is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    /// Before it looks at anything.
    Arrival,
    /// After it looked, before it commits.
    Commit,
    /// After it committed, before it is answered.
    Answer,
}

impl RequestMatch {
    /// Requests whose path contains `path`, held before anything is committed; what they see of the world is what was
    /// there when they arrived.
    #[must_use]
    pub fn path(path: &str) -> Self {
        Self {
            method: None,
            path: path.to_owned(),
            point: Point::Commit,
        }
    }

    /// Only requests with this method.
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        self.method = Some(method.to_uppercase());
        self
    }

    /// Hold after the commit, before the answer.
    #[must_use]
    pub fn after_commit(mut self) -> Self {
        self.point = Point::Answer;
        self
    }

    /// Before the request looks at anything: what happens there did not race with it, it came first.
    #[must_use]
    pub fn on_arrival(mut self) -> Self {
        self.point = Point::Arrival;
        self
    }

    pub(crate) fn takes(&self, method: &str, path: &str, point: Point) -> bool {
        let method_fits = self.method.as_deref().is_none_or(|wanted| wanted == method);
        self.point == point && method_fits && path.contains(&self.path)
    }
}

/// Holds requests until they are let go. Dropping it opens it.
#[derive(Debug)]
pub struct Gate {
    bar: Arc<Bar>,
}

#[derive(Debug)]
struct Bar {
    matching: RequestMatch,
    permits: Semaphore,
    arrived: watch::Sender<usize>,
}

impl Gate {
    /// How many requests have arrived at this gate so far.
    #[must_use]
    pub fn arrived(&self) -> usize {
        *self.bar.arrived.borrow()
    }

    /// Waits until `count` requests in all have arrived; false when `patience` runs out first.
    pub async fn wait_for(&self, count: usize, patience: Duration) -> bool {
        let mut arrived = self.bar.arrived.subscribe();
        let reached = arrived.wait_for(|arrived| *arrived >= count);
        tokio::time::timeout(patience, reached)
            .await
            .is_ok_and(|seen| seen.is_ok())
    }

    /// Lets `count` requests go, those that wait or the next to come, in the order they arrived.
    pub fn release(&self, count: usize) {
        self.bar.permits.add_permits(count);
    }

    /// Lets everything go from now on.
    pub fn open(&self) {
        self.bar.permits.close();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.open();
    }
}

/// All gates of a server.
#[derive(Debug, Default)]
pub(crate) struct Gates(Mutex<Vec<Arc<Bar>>>);

impl Gates {
    /// Sets up a gate.
    pub(crate) fn add(&self, matching: RequestMatch) -> Gate {
        let bar = Arc::new(Bar {
            matching,
            permits: Semaphore::new(0),
            arrived: watch::Sender::new(0),
        });
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        gates.retain(|bar| !bar.permits.is_closed());
        gates.push(Arc::clone(&bar));
        Gate { bar }
    }

    /// Waits at every closed gate that takes this request.
    pub(crate) async fn pass(&self, method: &str, path: &str, point: Point) {
        let bars: Vec<Arc<Bar>> = {
            let gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            gates
                .iter()
                .filter(|bar| bar.matching.takes(method, path, point))
                .cloned()
                .collect()
        };
        for bar in bars {
            bar.arrived.send_modify(|arrived| *arrived += 1);
            // A closed semaphore is an open gate.
            if let Ok(permit) = bar.permits.acquire().await {
                permit.forget();
            }
        }
    }
}
