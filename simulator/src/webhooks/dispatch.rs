//! Deliveries leave in order as long as each had a first attempt; retries, duplicates and late ones leave when they
//! are due, beside the line. That is as much order as Polar gives.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::faults::DeliveryFault;
use crate::http::shared::Shared;
use crate::webhooks::attempts::Answer;
use crate::webhooks::sign;
use crate::world::outbox::{DeliveryState, Task};
use crate::world::store::Store;

/// An attempt is given up after this.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// An event older than this no longer holds up the line.
const LINE_AGE: Duration = Duration::from_secs(60);

/// The line of first attempts, one after another.
pub(crate) async fn deliver_in_order(shared: Arc<Shared>) {
    let mut stragglers = JoinSet::new();
    let queued = Arc::clone(&shared.lock().outbox.queued);
    loop {
        let next = shared.lock().next_in_line();
        match next {
            None => queued.notified().await,
            Some((number, false)) => attempt(Arc::clone(&shared), number).await,
            Some((number, true)) => {
                stragglers.spawn(attempt(Arc::clone(&shared), number));
            }
        }
        while stragglers.try_join_next().is_some() {}
    }
}

/// Whatever has a time: retries, duplicates, late deliveries, invoices.
pub(crate) async fn run_timed(shared: Arc<Shared>) {
    let mut running = JoinSet::new();
    let scheduled = Arc::clone(&shared.lock().outbox.scheduled);
    loop {
        let (due, wait) = shared.lock().take_due();
        for number in due {
            running.spawn(attempt(Arc::clone(&shared), number));
        }
        while running.try_join_next().is_some() {}
        match wait {
            Some(wait) => {
                let _woken_or_due = tokio::time::timeout(wait, scheduled.notified()).await;
            }
            None => scheduled.notified().await,
        }
    }
}

impl Store {
    /// The next first attempt, and whether its event is too old to hold up the line. Late and reordered ones step aside.
    fn next_in_line(&mut self) -> Option<(usize, bool)> {
        while let Some(number) = self.outbox.queue.pop_front() {
            match self.outbox.faults.roll_departure(&mut self.outbox.dice) {
                Some(DeliveryFault::Late) => self.hold(number, 30.0..90.0),
                Some(DeliveryFault::Reorder) => self.hold(number, 0.5..4.0),
                _ => {
                    self.outbox.in_flight += 1;
                    let old = self.outbox.deliveries[number].made + LINE_AGE < self.clock.elapsed();
                    return Some((number, old));
                }
            }
        }
        None
    }

    /// Takes the deliveries that are due and does what else is; says how long until the next task.
    fn take_due(&mut self) -> (Vec<usize>, Option<Duration>) {
        let mut due = Vec::new();
        loop {
            let now = self.clock.elapsed();
            let Some(entry) = self.outbox.timed.first_entry() else {
                return (due, None);
            };
            let at = entry.key().0;
            if at > now {
                return (due, Some(at - now));
            }
            match entry.remove() {
                Task::Attempt(number) => {
                    self.outbox.in_flight += 1;
                    due.push(number);
                }
                Task::Invoice(order) => self.finish_invoice(order),
                Task::SlackInvite(grant) => self.finish_slack_invite(grant),
                Task::EndGrants(customer) => self.end_grants_of(customer),
                Task::EndSubscriptions(customer) => self.end_subscriptions_of(customer),
            }
        }
    }

    /// What an attempt needs: where to, signed with what, saying what. `None` when there is nothing left to attempt.
    fn prepare(&mut self, number: usize) -> Option<Departure> {
        let delivery = self.outbox.deliveries.get(number)?;
        if delivery.state == DeliveryState::Skipped {
            return None;
        }
        let id = delivery.id.to_string();
        let endpoint = self.outbox.endpoints.get(delivery.endpoint_id)?;
        let (url, secret) = (endpoint.url.clone(), endpoint.secret.clone());
        let body = self.build_body(number)?;
        let fault = self.outbox.faults.roll_attempt(&mut self.outbox.dice);
        Some(Departure {
            id,
            url,
            secret,
            body,
            fault,
        })
    }
}

struct Departure {
    id: String,
    url: String,
    secret: String,
    body: String,
    fault: Option<DeliveryFault>,
}

/// Counts an attempt out, also when its task is cancelled.
struct InFlight(Arc<Shared>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.lock().outbox.in_flight -= 1;
    }
}

async fn attempt(shared: Arc<Shared>, number: usize) {
    let _counted = InFlight(Arc::clone(&shared));
    let Some(departure) = shared.lock().prepare(number) else {
        return;
    };
    let lost = |text: &str| Answer {
        status: None,
        text: text.into(),
        hopeless: false,
    };
    let answer = match departure.fault {
        Some(DeliveryFault::NeverSent) => lost("lost: the attempt was not made"),
        Some(DeliveryFault::AnswerLost) => {
            send(&shared.client, &departure).await;
            lost("lost: the answer was not read")
        }
        _ => send(&shared.client, &departure).await,
    };
    let mut store = shared.lock();
    store.conclude(number, answer);
    if departure.fault == Some(DeliveryFault::Duplicate) {
        store.hold(number, 0.0..8.0);
    }
}

/// One signed POST. The timestamp is the machine's: receivers compare it with their own clock.
async fn send(client: &reqwest::Client, departure: &Departure) -> Answer {
    let timestamp = chrono::Utc::now().timestamp();
    let signature = sign::signature(&departure.secret, &departure.id, timestamp, &departure.body);
    let request = client
        .post(&departure.url)
        .timeout(ATTEMPT_TIMEOUT)
        .header("user-agent", "polar.sh webhooks")
        .header("content-type", "application/json")
        .header("webhook-id", &departure.id)
        .header("webhook-timestamp", timestamp.to_string())
        .header("webhook-signature", signature)
        .body(departure.body.clone());
    match request.send().await {
        Ok(response) => {
            let status = response.status().as_u16();
            let text = response.text().await.unwrap_or_default();
            Answer {
                status: Some(status),
                text,
                hopeless: false,
            }
        }
        Err(error) => {
            let text = error.without_url().to_string();
            let hopeless = reqwest::Url::parse(&departure.url).is_err();
            Answer {
                status: None,
                text,
                hopeless,
            }
        }
    }
}
