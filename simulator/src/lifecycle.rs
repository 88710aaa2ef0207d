//! Why: a subscription moves through the same states whoever moves it, the API, the story or the clock; here the moves
//! are made and announced in Polar's order (polar-domain (c.6)).

use chrono::Months;
use serde_json::Value;
use uuid::Uuid;

use crate::model::{Moment, Order, PendingUpdate, Subscription};
use crate::store::Store;
use crate::webhooks::Payload;

/// Tax on every paid order, in hundredths of a percent (2000 gives 175, as recorded).
const TAX: i64 = 875;

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

    /// Announces an order as it is now.
    pub(crate) fn announce_order(&mut self, id: Uuid, kinds: &[&'static str]) {
        let Some(row) = self.orders.get(id) else {
            return;
        };
        let view = self.order_view(row);
        for kind in kinds {
            self.announce(kind, Payload::Ready(view.clone()));
        }
    }

    /// The price of a product under a discount, in cents.
    pub(crate) fn amount(&self, product_id: Uuid, discount_id: Option<Uuid>) -> i64 {
        let price = self
            .products
            .get(product_id)
            .map_or(0, |product| product.price_amount);
        let Some(discount) = discount_id.and_then(|id| self.discounts.get(id)) else {
            return price;
        };
        if let Some(basis_points) = discount.request.get("basis_points").and_then(Value::as_i64) {
            return price * (10_000 - basis_points) / 10_000;
        }
        let fixed = discount
            .request
            .get("amount")
            .and_then(Value::as_i64)
            .unwrap_or(0);
        (price - fixed).max(0)
    }

    /// A new running subscription: created, active, updated, as recorded; then its grants.
    pub(crate) fn start_subscription(
        &mut self,
        customer_id: Uuid,
        product_id: Uuid,
        checkout: Option<(Uuid, Option<Uuid>)>,
    ) -> Uuid {
        let (id, now) = (self.fresh_id(), self.now());
        let discount_id = checkout.and_then(|(_, discount)| discount);
        let amount = self.amount(product_id, discount_id);
        self.subscriptions.insert(Subscription {
            id,
            created_at: now,
            modified_at: None,
            customer_id,
            product_id,
            discount_id,
            checkout_id: checkout.map(|(id, _)| id),
            status: "active",
            amount,
            period_start: now,
            period_end: self.next_period_end(product_id, now),
            cancel_at_period_end: false,
            pause_at_period_end: false,
            started_at: now,
            canceled_at: None,
            ends_at: None,
            ended_at: None,
            past_due_at: None,
            paused_at: None,
            pending: None,
        });
        self.next_revision();
        self.announce_subscription(
            id,
            &[
                "subscription.created",
                "subscription.active",
                "subscription.updated",
            ],
        );
        id
    }

    fn next_period_end(&self, product_id: Uuid, from: Moment) -> Moment {
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

    /// An order of a subscription at its present price; announced as `order.created`.
    pub(crate) fn place_order(
        &mut self,
        subscription_id: Uuid,
        reason: &'static str,
        status: &'static str,
    ) -> Uuid {
        let (id, item_id, now) = (self.fresh_id(), self.fresh_id(), self.now());
        let Some(row) = self.subscriptions.get(subscription_id).cloned() else {
            return id;
        };
        let customer = self.customers.get(row.customer_id);
        let price = self
            .products
            .get(row.product_id)
            .map_or(0, |product| product.price_amount);
        let number = self.orders.len() + 1;
        self.orders.insert(Order {
            id,
            created_at: now,
            modified_at: None,
            customer_id: row.customer_id,
            product_id: Some(row.product_id),
            subscription_id: Some(subscription_id),
            checkout_id: row.checkout_id,
            discount_id: row.discount_id,
            status,
            billing_reason: reason,
            subtotal: price,
            discount: price - row.amount,
            tax: row.amount * TAX / 10_000,
            billing_name: customer
                .and_then(|customer| customer.billing_name.clone().or(customer.name.clone())),
            billing_address: customer
                .map_or(Value::Null, |customer| customer.billing_address.clone()),
            invoice_number: Some(format!("SELF-{number:04}")),
            invoice_generated: false,
            description: self
                .products
                .get(row.product_id)
                .map_or(String::new(), |product| product.name.clone()),
            item_id,
        });
        self.announce_order(id, &["order.created"]);
        id
    }

    /// Money arrived.
    pub(crate) fn pay_order(&mut self, id: Uuid) {
        self.set_order_status(id, "paid");
        self.announce_order(id, &["order.updated", "order.paid"]);
    }

    /// Changes the status of an order without a word.
    pub(crate) fn set_order_status(&mut self, id: Uuid, status: &'static str) {
        let now = self.now();
        if let Some(row) = self.orders.get_mut(id) {
            row.status = status;
            row.modified_at = Some(now);
        }
    }

    /// `cancel_at_period_end`: access lasts, the cancellation is known now.
    pub(crate) fn cancel_subscription(&mut self, id: Uuid) {
        self.change(id, |row, now| {
            row.cancel_at_period_end = true;
            row.canceled_at = Some(now);
            row.ends_at = Some(row.period_end);
        });
        self.announce_subscription(id, &["subscription.updated", "subscription.canceled"]);
    }

    /// Takes a pending cancellation back.
    pub(crate) fn uncancel_subscription(&mut self, id: Uuid) {
        self.change(id, |row, _| {
            row.cancel_at_period_end = false;
            row.canceled_at = None;
            row.ends_at = None;
        });
        self.announce_subscription(id, &["subscription.updated", "subscription.uncanceled"]);
    }

    /// Ends a subscription at once; pending orders are voided (R27), benefits withdrawn.
    pub(crate) fn revoke_subscription(&mut self, id: Uuid) {
        self.end_row(id);
        self.announce_subscription(
            id,
            &[
                "subscription.updated",
                "subscription.canceled",
                "subscription.revoked",
            ],
        );
        self.void_pending_orders(id);
        self.revoke_grants(id, &[]);
    }

    /// The end of a cancelled period.
    fn expire_subscription(&mut self, id: Uuid) {
        self.end_row(id);
        self.announce_subscription(id, &["subscription.updated", "subscription.revoked"]);
        self.revoke_grants(id, &[]);
    }

    fn end_row(&mut self, id: Uuid) {
        self.change(id, |row, now| {
            row.status = "canceled";
            row.cancel_at_period_end = false;
            row.canceled_at = row.canceled_at.or(Some(now));
            row.ends_at = Some(now);
            row.ended_at = Some(now);
        });
    }

    fn void_pending_orders(&mut self, subscription_id: Uuid) {
        let of_subscription = self
            .orders
            .iter()
            .filter(|row| row.subscription_id == Some(subscription_id));
        let pending = of_subscription
            .filter(|row| row.status == "pending")
            .map(|row| row.id);
        for id in pending.collect::<Vec<_>>() {
            self.set_order_status(id, "void");
            self.announce_order(id, &["order.updated"]);
        }
    }

    /// After a customer's deletion: grants go first, then the subscriptions, as recorded.
    pub(crate) fn end_everything_of(&mut self, customer_id: Uuid) {
        let of_customer = self
            .subscriptions
            .iter()
            .filter(|row| row.customer_id == customer_id);
        let running: Vec<Uuid> = of_customer
            .filter(|row| row.ended_at.is_none())
            .map(|row| row.id)
            .collect();
        for id in &running {
            self.revoke_grants(*id, &[]);
        }
        for id in running {
            self.end_row(id);
            self.announce_subscription(
                id,
                &[
                    "subscription.updated",
                    "subscription.canceled",
                    "subscription.revoked",
                ],
            );
            self.void_pending_orders(id);
        }
    }

    /// Puts a subscription on another product.
    pub(crate) fn move_to_product(&mut self, id: Uuid, product_id: Uuid, proration: Proration) {
        if proration == Proration::NextPeriod {
            self.postpone(id, product_id, None);
            return;
        }
        self.switch_product(id, product_id, true);
        if proration == Proration::Invoice {
            let order = self.place_order(id, "subscription_update", "pending");
            self.pay_order(order);
        }
    }

    /// Notes a change for the end of the period; a discount in the same request waits with it (R19).
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
            row.pending = Some(PendingUpdate {
                id: pending_id,
                created_at: now,
                applies_at,
                product_id,
                discount_id,
            });
        }
        self.announce_subscription(id, &["subscription.updated"]);
    }

    /// Switches product and grants; `new_first` decides whether both sets are held for a moment (d.1).
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
            row.period_start = row.period_end;
            row.period_end = end;
        });
        self.announce_subscription(id, &["subscription.cycled", "subscription.updated"]);
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

    /// A failed charge was made good.
    pub(crate) fn recover_subscription(&mut self, id: Uuid) {
        let of_subscription = self
            .orders
            .iter()
            .filter(|row| row.subscription_id == Some(id));
        let pending: Vec<Uuid> = of_subscription
            .filter(|row| row.status == "pending")
            .map(|row| row.id)
            .collect();
        for order in pending {
            self.pay_order(order);
        }
        self.change(id, |row, _| {
            row.status = "active";
            row.past_due_at = None;
        });
        self.announce_subscription(id, &["subscription.updated", "subscription.active"]);
    }

    /// Dunning is exhausted: access ends, the debt stays (c.6, row 39).
    pub(crate) fn give_up_subscription(&mut self, id: Uuid) {
        self.change(id, |row, _| row.status = "unpaid");
        self.announce_subscription(id, &["subscription.updated", "subscription.revoked"]);
        self.revoke_grants(id, &[]);
    }

    /// The pause takes effect: benefits are withdrawn.
    pub(crate) fn pause_subscription(&mut self, id: Uuid) {
        self.change(id, |row, now| {
            row.status = "paused";
            row.pause_at_period_end = false;
            row.paused_at = Some(now);
        });
        self.announce_subscription(id, &["subscription.updated", "subscription.paused"]);
        self.revoke_grants(id, &[]);
    }

    /// The pause ends: charged at once, benefits come back.
    pub(crate) fn resume_subscription(&mut self, id: Uuid) {
        let product = self
            .subscriptions
            .get(id)
            .map_or(Uuid::nil(), |row| row.product_id);
        let end = self.next_period_end(product, self.now());
        self.change(id, |row, now| {
            row.status = "active";
            row.paused_at = None;
            row.period_start = now;
            row.period_end = end;
        });
        self.announce_subscription(id, &["subscription.updated", "subscription.resumed"]);
        let order = self.place_order(id, "subscription_cycle", "pending");
        self.pay_order(order);
        self.grant_missing(id);
    }

    /// Attaches or clears a discount; a redemption stays counted for ever (R20).
    pub(crate) fn attach_discount(&mut self, id: Uuid, discount_id: Option<Uuid>) {
        if let Some(discount) = discount_id.and_then(|id| self.discounts.get_mut(id)) {
            discount.redemptions += 1;
        }
        let product = self
            .subscriptions
            .get(id)
            .map_or(Uuid::nil(), |row| row.product_id);
        let amount = self.amount(product, discount_id);
        self.change(id, |row, _| {
            row.discount_id = discount_id;
            row.amount = amount;
        });
        self.announce_subscription(id, &["subscription.updated"]);
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
                self.renew_subscription(id, true);
            }
        }
    }
}
