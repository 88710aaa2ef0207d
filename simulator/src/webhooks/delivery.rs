//! Why: a delivery is an event for one endpoint with all its attempts; the id stays, each attempt is signed anew.

use std::time::Duration;

use rand::RngExt;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::call::{Call, Outcome, Reply, parse_uuid};
use crate::clock::text;
use crate::errors::{Refusal, at};
use crate::model::Moment;
use crate::paging::Page;
use crate::store::Store;
use crate::webhooks::schedule::delay_after;
use crate::webhooks::{ATTEMPTS, Payload, Task};

/// An endpoint is disabled when this many of its latest events have all finally failed.
const FAILURES_TO_DISABLE: usize = 10;

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

/// How an attempt went.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The HTTP status; `None` when there was no answer.
    pub(crate) status: Option<u16>,
    /// The first characters of the answer, or why there was none.
    pub(crate) text: String,
    /// No such host: fails at once, without another try (c.1).
    pub(crate) hopeless: bool,
}

/// `GET /v1/webhooks/deliveries`: one item per attempt, newest first.
pub(crate) fn list(store: &mut Store, call: &Call) -> Outcome {
    let page = Page::of(call)?;
    let endpoints = call.ids("endpoint_id")?;
    let succeeded = call.flag("succeeded");
    let (start, end) = (
        moment(call, "start_timestamp"),
        moment(call, "end_timestamp"),
    );
    let kinds = call.all("event_type");
    let mut rows: Vec<(&Delivery, &Attempt)> = store
        .outbox
        .deliveries
        .iter()
        .flat_map(with_attempts)
        .collect();
    rows.retain(|(delivery, attempt)| {
        (endpoints.is_empty() || endpoints.contains(&delivery.endpoint_id))
            && succeeded.is_none_or(|succeeded| succeeded == attempt.succeeded)
            && start.is_none_or(|start| attempt.at >= start)
            && end.is_none_or(|end| attempt.at <= end)
            && (kinds.is_empty() || kinds.contains(&delivery.kind))
    });
    rows.sort_by_key(|(_, attempt)| std::cmp::Reverse(attempt.at));
    page.show(&rows, |(delivery, attempt)| view(delivery, attempt))
}

/// `POST /v1/webhooks/events/{id}/redeliver`
pub(crate) fn redeliver(store: &mut Store, call: &Call) -> Outcome {
    let id = call.param(0);
    let id = parse_uuid(id, at(&["path", "id"])).map_err(|fault| Refusal::schema(vec![fault]))?;
    if store.redeliver(id) {
        Ok(Reply::accepted())
    } else {
        Err(Refusal::not_found("Not found"))
    }
}

fn with_attempts(delivery: &Delivery) -> impl Iterator<Item = (&Delivery, &Attempt)> {
    delivery
        .attempts
        .iter()
        .map(move |attempt| (delivery, attempt))
}

fn moment(call: &Call, key: &str) -> Option<Moment> {
    let parsed = chrono::DateTime::parse_from_rfc3339(call.last(key)?).ok()?;
    Some(parsed.with_timezone(&chrono::Utc))
}

fn view(delivery: &Delivery, attempt: &Attempt) -> Value {
    let last = delivery.attempts.last().and_then(|attempt| attempt.status);
    let succeeded = match delivery.state {
        DeliveryState::Succeeded => Some(true),
        DeliveryState::Failed => Some(false),
        DeliveryState::Pending | DeliveryState::Skipped => None,
    };
    json!({
        "created_at": text(attempt.at), "modified_at": null, "id": attempt.id, "succeeded": attempt.succeeded,
        "http_code": attempt.status, "response": attempt.response,
        "webhook_event": {
            "created_at": text(delivery.created_at), "modified_at": delivery.modified_at.map(text), "id": delivery.id,
            "last_http_code": last, "succeeded": succeeded, "skipped": delivery.state == DeliveryState::Skipped,
            "payload": delivery.body, "type": delivery.kind, "is_archived": false,
        },
    })
}

impl Store {
    /// Sends an event once more, with the schedule started over.
    pub(crate) fn redeliver(&mut self, id: Uuid) -> bool {
        let found = self
            .outbox
            .deliveries
            .iter()
            .position(|delivery| delivery.id == id);
        let Some(number) = found else { return false };
        let delivery = &mut self.outbox.deliveries[number];
        delivery.round = 0;
        delivery.state = DeliveryState::Pending;
        self.outbox.enqueue(number);
        true
    }

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

    /// Disables an endpoint whose ten latest concluded events all failed; what still waits is skipped (c.1).
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
