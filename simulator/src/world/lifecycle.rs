//! A subscription moves through the same states whoever moves it, the API, people or the clock; here the moves
//! are made and announced in Polar's order.

use chrono::{Days, Months};
use uuid::Uuid;

use crate::world::model::{Moment, PendingUpdate, Subscription};
use crate::world::outbox::Payload;
use crate::world::store::Store;

/// How a new subscription is announced, as recorded.
const STARTED: [&str; 3] = [
    "subscription.created",
    "subscription.active",
    "subscription.updated",
];

/// In which state a subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Paid at once.
    Active,
    /// With so many days that cost nothing; the first charge comes when they are over.
    Trial(u32),
    /// The first charge has not succeeded yet: nothing is granted.
    Incomplete,
}

impl Start {
    fn status(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Trial(_) => "trialing",
            Self::Incomplete => "incomplete",
        }
    }
}

/// When a changed product takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proration {
    /// At once, and charged at once.
    Invoice,
    /// At once, charged with the next order.
    Prorate,
    /// When the period ends; until then it is a `pending_update`.
    NextPeriod,
}

impl Store {
    /// Announces a subscription as it is now.
    pub(crate) fn announce_subscription(&mut self, id: Uuid, kinds: &[&'static str]) {
        let Some(row) = self.subscriptions.get(id) else {
            return;
        };
        let (view, customer) = (self.subscription_view(row), row.customer_id);
        for kind in kinds {
            self.announce(kind, Payload::Ready(view.clone()));
        }
        self.announce("customer.state_changed", Payload::CustomerState(customer));
    }

    /// A new running subscription: created, active, updated, as recorded; then its grants.
    pub(crate) fn start_subscription(
        &mut self,
        customer_id: Uuid,
        product_id: Uuid,
        checkout: Option<(Uuid, Option<Uuid>)>,
        start: Start,
    ) -> Uuid {
        let (id, now) = (self.fresh_id(), self.now());
        let discount_id = checkout.and_then(|(_, discount)| discount);
        let amount = self.amount(product_id, discount_id);
        let trial = match start {
            Start::Trial(days) => Some((now, now + Days::new(days.into()))),
            Start::Active | Start::Incomplete => None,
        };
        self.subscriptions.insert(Subscription {
            id,
            created_at: now,
            modified_at: None,
            customer_id,
            product_id,
            discount_id,
            discount_applied_at: discount_id.map(|_| now),
            checkout_id: checkout.map(|(id, _)| id),
            payment_method: self.paying_with(customer_id),
            locked: false,
            status: start.status(),
            amount,
            period_start: now,
            period_end: trial
                .map_or_else(|| self.next_period_end(product_id, now), |trial| trial.1),
            cancel_at_period_end: false,
            pause_at_period_end: false,
            trial,
            started_at: now,
            canceled_at: None,
            ends_at: None,
            ended_at: None,
            past_due_at: None,
            paused_at: None,
            pending: None,
            prorations: Vec::new(),
        });
        self.next_revision();
        let kinds: &[&str] = if start == Start::Incomplete {
            &["subscription.created", "subscription.updated"]
        } else {
            &STARTED
        };
        self.announce_subscription(id, kinds);
        id
    }

    pub(crate) fn next_period_end(&self, product_id: Uuid, from: Moment) -> Moment {
        let yearly = self
            .products
            .get(product_id)
            .is_some_and(|product| product.interval == "year");
        from + Months::new(if yearly { 12 } else { 1 })
    }

    /// Changes a subscription and stamps it.
    pub(crate) fn change(&mut self, id: Uuid, change: impl FnOnce(&mut Subscription, Moment)) {
        let now = self.now();
        self.next_revision();
        if let Some(row) = self.subscriptions.get_mut(id) {
            change(row, now);
            row.modified_at = Some(now);
        }
    }

    /// Notes a change for the end of the period; a discount in the same request waits with it. One that waits
    /// already is changed, not replaced.
    pub(crate) fn postpone(
        &mut self,
        id: Uuid,
        product_id: Uuid,
        discount_id: Option<Option<Uuid>>,
    ) {
        let (pending_id, now) = (self.fresh_id(), self.now());
        self.next_revision();
        if let Some(row) = self.subscriptions.get_mut(id) {
            let applies_at = row.period_end;
            let before = row.pending.as_ref();
            row.pending = Some(PendingUpdate {
                id: before.map_or(pending_id, |before| before.id),
                created_at: before.map_or(now, |before| before.created_at),
                modified_at: before.map(|_| now),
                applies_at,
                product_id,
                discount_id,
            });
        }
        self.announce_subscription(id, &["subscription.updated"]);
    }

    /// Switches product and grants; `new_first` decides whether both sets are held for a moment.
    pub(crate) fn switch_product(&mut self, id: Uuid, product_id: Uuid, new_first: bool) {
        let discount = self.subscriptions.get(id).and_then(|row| row.discount_id);
        let amount = self.amount(product_id, discount);
        self.change(id, |row, _| {
            row.product_id = product_id;
            row.amount = amount;
            row.pending = None;
        });
        self.announce_subscription(id, &["subscription.updated"]);
        self.replace_grants(id, new_first);
    }

    /// A new period: the renewal order is placed and, if the charge succeeds, paid.
    pub(crate) fn renew_subscription(&mut self, id: Uuid, paid: bool) {
        let Some(row) = self.subscriptions.get(id).cloned() else {
            return;
        };
        if let Some(pending) = &row.pending {
            if let Some(discount) = pending.discount_id {
                self.attach_discount(id, discount);
            }
            self.switch_product(id, pending.product_id, true);
        }
        let product = self
            .subscriptions
            .get(id)
            .map_or(row.product_id, |row| row.product_id);
        let end = self.next_period_end(product, row.period_end);
        self.change(id, |row, _| {
            row.status = "active";
            row.period_start = row.period_end;
            row.period_end = end;
        });
        self.announce_subscription(id, &["subscription.cycled", "subscription.updated"]);
        self.drop_spent_discount(id);
        let order = self.place_order(id, "subscription_cycle", "pending");
        if paid {
            self.pay_order(order);
            self.cycle_grants(id);
        } else {
            self.change(id, |row, now| {
                row.status = "past_due";
                row.past_due_at = Some(now);
            });
            self.announce_subscription(id, &["subscription.updated", "subscription.past_due"]);
        }
    }

    /// The next moment at which a period ends.
    pub(crate) fn next_period_boundary(&self) -> Option<Moment> {
        let turning = self
            .subscriptions
            .iter()
            .filter(|row| matches!(row.status, "active" | "trialing"));
        turning.map(|row| row.period_end).min()
    }

    /// Ends every period that is over by now, oldest first.
    pub(crate) fn turn_periods(&mut self) {
        let now = self.now();
        let running = self
            .subscriptions
            .iter()
            .filter(|row| matches!(row.status, "active" | "trialing"));
        let due = running
            .filter(|row| row.period_end <= now)
            .map(|row| (row.period_end, row.id));
        let mut due: Vec<(Moment, Uuid)> = due.collect();
        due.sort();
        for (_, id) in due {
            let Some(row) = self.subscriptions.get(id) else {
                continue;
            };
            if row.cancel_at_period_end {
                self.expire_subscription(id);
            } else if row.pause_at_period_end {
                self.pause_subscription(id);
            } else {
                let due = self.due_for_next_period(id);
                let paid = self.chargeable(id, due).is_ok();
                self.renew_subscription(id, paid);
            }
        }
    }
}
