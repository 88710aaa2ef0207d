//! The server, the deliveries, people and the control surface all hold the same world.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::TimeDelta;

use crate::http::access::{Access, Credentials};
use crate::http::armed::Interventions;
use crate::http::hold::Holds;
use crate::http::outages::Outages;
use crate::http::route_table::ROUTES;
use crate::options::Options;
use crate::world::store::Store;

/// Everything a running simulator consists of, but its sockets.
#[derive(Debug)]
pub(crate) struct Shared {
    store: Mutex<Store>,
    /// What a token of another organization sees: nothing.
    foreign: Mutex<Store>,
    pub(crate) access: Access,
    pub(crate) holds: Holds,
    pub(crate) interventions: Interventions,
    pub(crate) outages: Outages,
    pub(crate) stall_above: Option<usize>,
    pub(crate) client: reqwest::Client,
    webhook_secret: Mutex<String>,
    pub(crate) organization_id: uuid::Uuid,
    pub(crate) access_token: String,
    pub(crate) first_secret: String,
}

impl Shared {
    /// The world as `options` want it, with its catalogue.
    pub(crate) fn new(options: &Options, client: reqwest::Client) -> Self {
        let mut store = Store::new(options);
        if options.catalogue {
            store.seed_catalogue();
        }
        store.register_endpoint(options.webhook_url.clone(), &options.webhook_secret);
        Self {
            store: Mutex::new(store),
            foreign: Mutex::new(Store::new(options)),
            access: Access::new(options),
            holds: Holds::default(),
            interventions: Interventions::default(),
            outages: Outages::default(),
            stall_above: options.stall_above,
            client,
            webhook_secret: Mutex::new(options.webhook_secret.clone()),
            organization_id: options.organization_id,
            access_token: options.access_token.clone(),
            first_secret: options.webhook_secret.clone(),
        }
    }

    /// The world; every hold of the lock is one transaction.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The world as a token sees it.
    pub(crate) fn lock_for(&self, foreign: bool) -> MutexGuard<'_, Store> {
        let store = if foreign { &self.foreign } else { &self.store };
        store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The secret endpoints are registered with.
    pub(crate) fn secret(&self) -> String {
        self.webhook_secret
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Replaces the secret endpoints are registered with.
    pub(crate) fn replace_secret(&self, secret: &str) {
        let mut slot = self
            .webhook_secret
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        secret.clone_into(&mut slot);
    }

    /// The first token has all scopes but these.
    pub(crate) fn withdraw_scopes(&self, withdrawn: &[&str]) {
        let all = ROUTES.iter().flat_map(|route| route.scopes);
        let left = all.filter(|scope| !withdrawn.contains(scope));
        let left: Vec<String> = left.map(|scope| (*scope).to_owned()).collect();
        let scopes = (!withdrawn.is_empty()).then_some(left);
        let foreign = false;
        let credentials = Credentials::Known { foreign, scopes };
        self.access.add_token(&self.access_token, credentials);
    }

    /// Registers `url` as the endpoint, or disables it.
    pub(crate) fn register(&self, url: Option<String>) {
        let secret = self.secret();
        self.lock().register_endpoint(url, &secret);
    }

    /// Moves the simulated clock forward, stopping at every period end and every planned task on the way, in order.
    pub(crate) async fn advance(self: &Arc<Self>, by: Duration) {
        let mut left = by;
        self.due_tasks_done().await;
        loop {
            let step = {
                let mut store = self.lock();
                let step = store.next_stop().map_or(left, |stop| stop.min(left));
                store.clock.advance(step);
                store.turn_periods();
                store.outbox.scheduled.notify_one();
                step
            };
            left -= step;
            self.due_tasks_done().await;
            if left.is_zero() {
                return;
            }
        }
    }

    /// Waits, within reason, until what is due by now has been attempted.
    async fn due_tasks_done(&self) {
        let timeout = tokio::time::Instant::now() + Duration::from_secs(15);
        while tokio::time::Instant::now() < timeout {
            if self.lock().nothing_due() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Store {
    /// How far the next period end or planned task is.
    fn next_stop(&self) -> Option<Duration> {
        let now = self.now();
        let until = |moment: crate::world::model::Moment| {
            (moment - now)
                .max(TimeDelta::zero())
                .to_std()
                .unwrap_or_default()
        };
        let period = self.next_period_boundary().map(until);
        let elapsed = self.clock.elapsed();
        let task = self
            .outbox
            .timed
            .first_key_value()
            .map(|((due, _), _)| due.saturating_sub(elapsed));
        [period, task].into_iter().flatten().min()
    }

    fn nothing_due(&self) -> bool {
        let elapsed = self.clock.elapsed();
        let due = self
            .outbox
            .timed
            .first_key_value()
            .is_some_and(|((due, _), _)| *due <= elapsed);
        !due && self.outbox.in_flight == 0 && self.outbox.queue.is_empty()
    }
}
