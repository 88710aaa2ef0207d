//! Races are tested by making them happen. A hold keeps matching requests before or after their commit and lets
//! them go one by one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

/// Which requests a [`HeldRequests`] holds, and where.
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

/// Requests that are held until they are released. Dropping it releases all.
#[derive(Debug)]
pub struct HeldRequests {
    hold: Arc<Hold>,
}

#[derive(Debug)]
struct Hold {
    matching: RequestMatch,
    permits: Semaphore,
    arrived: watch::Sender<usize>,
}

impl HeldRequests {
    /// How many requests have arrived so far.
    #[must_use]
    pub fn arrived(&self) -> usize {
        *self.hold.arrived.borrow()
    }

    /// Waits until `count` requests in all have arrived; false when `timeout` runs out first.
    pub async fn wait_for(&self, count: usize, timeout: Duration) -> bool {
        let mut arrived = self.hold.arrived.subscribe();
        let reached = arrived.wait_for(|arrived| *arrived >= count);
        tokio::time::timeout(timeout, reached)
            .await
            .is_ok_and(|seen| seen.is_ok())
    }

    /// Lets `count` requests go, those that wait or the next to come, in the order they arrived.
    pub fn release(&self, count: usize) {
        self.hold.permits.add_permits(count);
    }

    /// Lets everything go from now on.
    pub fn release_all(&self) {
        self.hold.permits.close();
    }
}

impl Drop for HeldRequests {
    fn drop(&mut self) {
        self.release_all();
    }
}

/// The holds of a server.
#[derive(Debug, Default)]
pub(crate) struct Holds(Mutex<Vec<Arc<Hold>>>);

impl Holds {
    /// Holds matching requests until they are released.
    pub(crate) fn add(&self, matching: RequestMatch) -> HeldRequests {
        let hold = Arc::new(Hold {
            matching,
            permits: Semaphore::new(0),
            arrived: watch::Sender::new(0),
        });
        let mut holds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        holds.retain(|hold| !hold.permits.is_closed());
        holds.push(Arc::clone(&hold));
        HeldRequests { hold }
    }

    /// Waits at every hold that takes this request.
    pub(crate) async fn pass(&self, method: &str, path: &str, point: Point) {
        let matching_holds: Vec<Arc<Hold>> = {
            let holds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            holds
                .iter()
                .filter(|hold| hold.matching.takes(method, path, point))
                .cloned()
                .collect()
        };
        for hold in matching_holds {
            hold.arrived.send_modify(|arrived| *arrived += 1);
            // A closed semaphore lets everything through.
            if let Ok(permit) = hold.permits.acquire().await {
                permit.forget();
            }
        }
    }
}
