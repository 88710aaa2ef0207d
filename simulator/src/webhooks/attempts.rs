//! A delivery is an event for one endpoint with all its attempts; the id stays, each attempt is signed anew.

use std::time::Duration;

use rand::RngExt;
use uuid::Uuid;

use crate::webhooks::schedule::{ATTEMPTS, delay_after};
use crate::world::outbox::{Attempt, DeliveryState, Task};
use crate::world::store::Store;

/// An endpoint is disabled when this many of its latest events have all finally failed.
const FAILURES_TO_DISABLE: usize = 10;

/// How an attempt went.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The HTTP status; `None` when there was no answer.
    pub(crate) status: Option<u16>,
    /// The first characters of the answer, or why there was none.
    pub(crate) text: String,
    /// No such host: fails at once, without another try.
    pub(crate) hopeless: bool,
}

impl Store {
    /// Writes an attempt down and plans what follows from it.
    pub(crate) fn conclude(&mut self, number: usize, answer: Answer) {
        let (id, now) = (self.fresh_id(), self.now());
        let succeeded = answer
            .status
            .is_some_and(|status| (200..300).contains(&status));
        let Some(delivery) = self.outbox.deliveries.get_mut(number) else {
            return;
        };
        let response = answer.text.chars().take(2048).collect();
        delivery.attempts.push(Attempt {
            id,
            at: now,
            status: answer.status,
            response,
            succeeded,
        });
        delivery.modified_at = Some(now);
        delivery.round += 1;
        if delivery.state == DeliveryState::Skipped || delivery.state == DeliveryState::Succeeded {
            return;
        }
        if succeeded {
            delivery.state = DeliveryState::Succeeded;
        } else if answer.hopeless || delivery.round >= ATTEMPTS {
            delivery.state = DeliveryState::Failed;
            let endpoint = delivery.endpoint_id;
            self.disable_if_failing(endpoint);
        } else {
            let made = delivery.round;
            let wait = delay_after(made, self.outbox.faults.retry_scale, &mut self.outbox.dice);
            let due = self.clock.elapsed() + wait;
            self.outbox.schedule(due, Task::Attempt(number));
        }
    }

    /// Disables an endpoint whose ten latest concluded events all failed; what still waits is skipped.
    fn disable_if_failing(&mut self, endpoint_id: Uuid) {
        let of_endpoint = self
            .outbox
            .deliveries
            .iter()
            .rev()
            .filter(|delivery| delivery.endpoint_id == endpoint_id);
        let concluded = of_endpoint
            .filter(|row| matches!(row.state, DeliveryState::Succeeded | DeliveryState::Failed));
        let latest: Vec<DeliveryState> = concluded
            .take(FAILURES_TO_DISABLE)
            .map(|row| row.state)
            .collect();
        if latest.len() < FAILURES_TO_DISABLE || latest.contains(&DeliveryState::Succeeded) {
            return;
        }
        let now = self.now();
        if let Some(endpoint) = self.outbox.endpoints.get_mut(endpoint_id) {
            endpoint.enabled = false;
            endpoint.modified_at = Some(now);
        }
        self.skip_pending(endpoint_id);
    }

    /// A random wait for a delivery that is to come late or out of order.
    pub(crate) fn hold(&mut self, number: usize, seconds: std::ops::Range<f64>) {
        let wait = self.outbox.dice.random_range(seconds) * self.outbox.faults.retry_scale;
        let due = self.clock.elapsed() + Duration::from_secs_f64(wait);
        self.outbox.schedule(due, Task::Attempt(number));
    }
}
