//! What Polar tells an application arrives by signed delivery, late, twice, out of order or not at all; the outbox
//! keeps what is to be sent, to whom, and what is due when.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::faults::Faults;
use crate::options::Options;
use crate::world::model::{Endpoint, Moment};
use crate::world::table::Table;

/// What a delivery says.
#[derive(Debug, Clone)]
pub(crate) enum Payload {
    /// As it was when it happened.
    Ready(Value),
    /// The customer as it is when the delivery is built.
    Customer(Uuid),
    /// The customer's state as it is when the delivery is built.
    CustomerState(Uuid),
}

/// Something to do at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Task {
    /// One attempt of a delivery, by its number.
    Attempt(usize),
    /// Finish an invoice.
    Invoice(Uuid),
    /// Send the invitation to a shared Slack channel.
    SlackInvite(Uuid),
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
    pub(crate) fn is_finished(&self) -> bool {
        let waiting = self
            .timed
            .values()
            .any(|task| !matches!(task, Task::Invoice(_)));
        self.queue.is_empty() && self.in_flight == 0 && !waiting
    }
}

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeliveryState {
    /// To be attempted (again).
    Pending,
    /// Answered 2xx.
    Succeeded,
    /// All attempts used up.
    Failed,
    /// Its endpoint was disabled first.
    Skipped,
}

/// One HTTP attempt.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) id: Uuid,
    pub(crate) at: Moment,
    pub(crate) status: Option<u16>,
    pub(crate) response: String,
    pub(crate) succeeded: bool,
}

/// One event for one endpoint.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) id: Uuid,
    pub(crate) endpoint_id: Uuid,
    pub(crate) kind: &'static str,
    pub(crate) created_at: Moment,
    pub(crate) modified_at: Option<Moment>,
    /// When it was made, on the monotonic line.
    pub(crate) made: Duration,
    pub(crate) body: Option<String>,
    pub(crate) late: Option<Payload>,
    pub(crate) attempts: Vec<Attempt>,
    /// Attempts since the last (re)delivery was asked for.
    pub(crate) round: usize,
    pub(crate) state: DeliveryState,
}

impl Delivery {
    /// A delivery without attempts.
    pub(crate) fn new(
        id: Uuid,
        endpoint_id: Uuid,
        kind: &'static str,
        created_at: Moment,
        made: Duration,
    ) -> Self {
        Self {
            id,
            endpoint_id,
            kind,
            created_at,
            modified_at: None,
            made,
            body: None,
            late: None,
            attempts: Vec::new(),
            round: 0,
            state: DeliveryState::Pending,
        }
    }
}
