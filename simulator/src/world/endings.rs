//! Access ends in several ways, each announced in its own order.

use crate::world::outbox::Task;
use crate::world::store::Store;
use uuid::Uuid;

impl Store {
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

    /// Ends a subscription at once; pending orders are voided, benefits withdrawn.
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
    pub(crate) fn expire_subscription(&mut self, id: Uuid) {
        self.end_row(id);
        self.announce_subscription(id, &["subscription.updated", "subscription.revoked"]);
        self.revoke_grants(id, &[]);
    }

    pub(crate) fn end_row(&mut self, id: Uuid) {
        self.change(id, |row, now| {
            row.status = "canceled";
            row.cancel_at_period_end = false;
            row.canceled_at = row.canceled_at.or(Some(now));
            row.ends_at = Some(now);
            row.ended_at = Some(now);
        });
    }

    /// After a customer's deletion a later job of Polar's ends its grants.
    pub(crate) fn end_grants_of(&mut self, customer_id: Uuid) {
        for id in self.running_of(customer_id) {
            self.revoke_grants(id, &[]);
        }
        let due = self.clock.elapsed() + self.deletion_delay;
        self.outbox
            .schedule(due, Task::EndSubscriptions(customer_id));
    }

    /// And a job after that one its subscriptions.
    pub(crate) fn end_subscriptions_of(&mut self, customer_id: Uuid) {
        for id in self.running_of(customer_id) {
            self.revoke_subscription(id);
        }
    }

    fn running_of(&self, customer_id: Uuid) -> Vec<Uuid> {
        let of_customer = self
            .subscriptions
            .iter()
            .filter(|row| row.customer_id == customer_id);
        let running = of_customer.filter(|row| row.ended_at.is_none());
        running.map(|row| row.id).collect()
    }

    /// Dunning is exhausted: access ends, the debt stays.
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
}
