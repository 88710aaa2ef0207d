//! Why: what Polar tells an application arrives by signed delivery, late, twice, out of order or not at all; the outbox
//! keeps what is to be told and to whom.

pub(crate) mod delivery;
pub(crate) mod dispatch;
pub(crate) mod endpoint;
mod schedule;
mod sign;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::clock::text;
use crate::faults::Faults;
use crate::model::Endpoint;
use crate::options::Options;
use crate::store::{Store, Table};
use delivery::{Delivery, DeliveryState};

pub(crate) use schedule::ATTEMPTS;

/// What a delivery says.
#[derive(Debug, Clone)]
pub(crate) enum Payload {
    /// As it was when it happened.
    Ready(Value),
    /// The customer as it is when the delivery is built (R7).
    Customer(Uuid),
    /// The customer's state as it is when the delivery is built (R7).
    CustomerState(Uuid),
}

/// Something to do at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Task {
    /// One attempt of a delivery, by its number.
    Attempt(usize),
    /// Finish an invoice.
    Invoice(Uuid),
    /// End the grants of a deleted customer.
    EndGrants(Uuid),
    /// End the subscriptions of a deleted customer.
    EndSubscriptions(Uuid),
}

/// Endpoints, deliveries, and what is due when.
#[derive(Debug)]
pub(crate) struct Outbox {
    pub(crate) endpoints: Table<Endpoint>,
    pub(crate) deliveries: Vec<Delivery>,
    pub(crate) queue: VecDeque<usize>,
    pub(crate) timed: BTreeMap<(Duration, u64), Task>,
    pub(crate) in_flight: usize,
    pub(crate) faults: Faults,
    pub(crate) dice: rand::rngs::StdRng,
    pub(crate) queued: Arc<Notify>,
    pub(crate) scheduled: Arc<Notify>,
    sequence: u64,
}

impl Outbox {
    /// An empty outbox.
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            endpoints: Table::default(),
            deliveries: Vec::new(),
            queue: VecDeque::new(),
            timed: BTreeMap::new(),
            in_flight: 0,
            faults: options.faults.clone(),
            dice: rand::SeedableRng::seed_from_u64(options.seed ^ 0x00D1_CE00),
            queued: Arc::new(Notify::new()),
            scheduled: Arc::new(Notify::new()),
            sequence: 0,
        }
    }

    /// Plans a task.
    pub(crate) fn schedule(&mut self, due: Duration, task: Task) {
        self.sequence += 1;
        self.timed.insert((due, self.sequence), task);
        self.scheduled.notify_one();
    }

    /// Puts a delivery at the end of the line of first attempts.
    pub(crate) fn enqueue(&mut self, number: usize) {
        self.queue.push_back(number);
        self.queued.notify_one();
    }

    /// Nothing waits, nothing is on its way.
    pub(crate) fn settled(&self) -> bool {
        let waiting = self
            .timed
            .values()
            .any(|task| !matches!(task, Task::Invoice(_)));
        self.queue.is_empty() && self.in_flight == 0 && !waiting
    }
}

impl Store {
    /// Records an event for every enabled endpoint that wants its type; a disabled one never hears of it (c.1).
    pub(crate) fn announce(&mut self, kind: &'static str, payload: Payload) {
        let wants = |endpoint: &&Endpoint| {
            endpoint.enabled
                && !endpoint.deleted
                && endpoint.events.iter().any(|wanted| wanted == kind)
        };
        let endpoints: Vec<Uuid> = self
            .outbox
            .endpoints
            .iter()
            .filter(wants)
            .map(|endpoint| endpoint.id)
            .collect();
        for endpoint_id in endpoints {
            let (id, created_at, made) = (self.fresh_id(), self.now(), self.clock.elapsed());
            let number = self.outbox.deliveries.len();
            let mut delivery = Delivery::new(id, endpoint_id, kind, created_at, made);
            match &payload {
                Payload::Ready(data) => {
                    delivery.body = Some(envelope(kind, &text(created_at), data))
                }
                late => delivery.late = Some(late.clone()),
            }
            self.outbox.deliveries.push(delivery);
            self.outbox.enqueue(number);
        }
    }

    /// The body of a delivery; a late one is built now and stays as built.
    pub(crate) fn build_body(&mut self, number: usize) -> Option<String> {
        let delivery = self.outbox.deliveries.get(number)?;
        if let Some(body) = &delivery.body {
            return Some(body.clone());
        }
        let data = match delivery.late.as_ref()? {
            Payload::Ready(data) => data.clone(),
            Payload::Customer(id) => self.customer_view(self.customers.get(*id)?),
            Payload::CustomerState(id) => self.customer_state_view(self.customers.get(*id)?),
        };
        let body = envelope(delivery.kind, &text(self.now()), &data);
        let delivery = self.outbox.deliveries.get_mut(number)?;
        delivery.body = Some(body.clone());
        Some(body)
    }

    /// Whether every delivery was answered 2xx or finally failed.
    pub(crate) fn deliveries_settled(&self) -> bool {
        self.outbox.settled()
    }

    /// Marks what still waits for an endpoint as skipped, when it is disabled.
    pub(crate) fn skip_pending(&mut self, endpoint_id: Uuid) {
        for delivery in &mut self.outbox.deliveries {
            if delivery.endpoint_id == endpoint_id && delivery.state == DeliveryState::Pending {
                delivery.state = DeliveryState::Skipped;
            }
        }
    }
}

/// Compact JSON in Polar's order of keys: type, timestamp, data.
fn envelope(kind: &str, timestamp: &str, data: &Value) -> String {
    format!(r#"{{"type":"{kind}","timestamp":"{timestamp}","data":{data}}}"#)
}
