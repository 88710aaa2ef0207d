//! Not every failure is everybody's. One customer's calls may fail while others are served, a gateway in front may
//! answer in place of Polar, and too many calls at once make Polar itself stand still.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use uuid::Uuid;

use crate::resources::call::Call;
use crate::world::store::Store;

/// How long Polar stands still after too many calls at once.
const STALL: Duration = Duration::from_secs(30);

/// A gateway that answers in place of Polar: without Polar's error body and without its version header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// The status of every answer.
    pub status: u16,
    /// A page of HTML rather than an object of JSON.
    pub html: bool,
    /// Only requests whose path contains this; empty for all.
    pub path: String,
}

/// What is out of order, beside what the dice decide.
#[derive(Debug, Default)]
pub(crate) struct Outages {
    inner: Mutex<Inner>,
    in_flight: AtomicUsize,
}

#[derive(Debug, Default)]
struct Inner {
    failing: BTreeMap<String, Failing>,
    gateway: Option<Gateway>,
    stalled_until: Duration,
}

/// How a customer's calls fail.
#[derive(Debug, Clone, Copy)]
struct Failing {
    status: u16,
    /// In real time, like the waits of those who call; `None`: until told.
    until: Option<Instant>,
}

/// In place of a customer: every call fails.
pub(crate) const EVERYBODY: &str = "*";

/// Counts a call out when it is over.
#[derive(Debug)]
pub(crate) struct InFlight<'a>(&'a Outages);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Outages {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets every call about this customer fail, named by either id, with this status and for so long.
    pub(crate) fn fail(&self, customer: &str, status: u16, lasting: Option<Duration>) {
        let until = lasting.and_then(|lasting| Instant::now().checked_add(lasting));
        let failing = Failing { status, until };
        self.lock().failing.insert(customer.to_owned(), failing);
    }

    /// Lets no customer's calls fail any more.
    pub(crate) fn fail_nobody(&self) {
        self.lock().failing.clear();
    }

    /// Whose calls fail.
    pub(crate) fn failing(&self) -> Vec<String> {
        self.lock().still_failing().keys().cloned().collect()
    }

    /// Puts a gateway in front, or takes it away.
    pub(crate) fn set_gateway(&self, gateway: Option<Gateway>) {
        self.lock().gateway = gateway;
    }

    /// The gateway that answers requests with this path.
    pub(crate) fn gateway(&self, path: &str) -> Option<Gateway> {
        let inner = self.lock();
        let gateway = inner.gateway.as_ref();
        gateway.filter(|one| path.contains(&one.path)).cloned()
    }

    /// Counts a call in and says whether Polar stands still: for a while after there were more than `most` at once.
    pub(crate) fn enter(&self, most: Option<usize>, now: Duration) -> (InFlight<'_>, bool) {
        let at_once = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        let mut inner = self.lock();
        if most.is_some_and(|most| at_once > most) {
            inner.stalled_until = now + STALL;
        }
        (InFlight(self), now < inner.stalled_until)
    }

    /// The status with which a call fails because of whom it is about. A batch of events is about no single customer.
    pub(crate) fn failure(&self, store: &Store, call: &Call) -> Option<u16> {
        let mut inner = self.lock();
        let mut failing = inner.still_failing().iter();
        failing
            .find(|(id, _)| *id == EVERYBODY || is_about(store, call, id))
            .map(|(_, failing)| failing.status)
    }
}

impl Inner {
    fn still_failing(&mut self) -> &BTreeMap<String, Failing> {
        let now = Instant::now();
        self.failing
            .retain(|_, failing| failing.until.is_none_or(|until| now < until));
        &self.failing
    }
}

fn is_about(store: &Store, call: &Call, id: &str) -> bool {
    let own_id = store.customer_by_external_id(id).map(|row| row.id);
    let own_id = own_id.or_else(|| Uuid::parse_str(id).ok());
    let own_text = own_id.map(|id| id.to_string());
    let names = |text: &str| text == id || own_text.as_deref() == Some(text);
    let subscription = |text: &String| {
        let row = Uuid::parse_str(text).ok();
        let row = row.and_then(|id| store.subscriptions.get(id));
        row.is_some_and(|row| Some(row.customer_id) == own_id)
    };
    let in_body = ["external_id", "customer_id", "external_customer_id"];
    let mut in_body = in_body.iter().filter_map(|key| call.body.get(key));
    let member = call.member.and_then(|id| store.members.get(id));
    member.is_some_and(|row| Some(row.customer_id) == own_id)
        || call
            .params
            .iter()
            .any(|text| names(text) || subscription(text))
        || call.query.iter().any(|(_, value)| names(value))
        || in_body.any(|value: &Value| value.as_str().is_some_and(names))
}
