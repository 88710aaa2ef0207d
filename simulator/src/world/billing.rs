//! Every period, purchase and change of plan ends in an order, whose status and invoice the mails depend on.

use crate::world::model::{Discount, Moment, Order, OrderItem, Subscription};
use crate::world::outbox::Payload;
use crate::world::store::Store;
use chrono::Months;
use serde_json::Value;
use uuid::Uuid;

/// Tax on every paid order, in hundredths of a percent (2000 gives 175, as recorded).
const TAX: i64 = 875;

/// The tax on so many cents.
pub(crate) fn tax_on(amount: i64) -> i64 {
    amount * TAX / 10_000
}

impl Store {
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

    fn billing_details(&self, customer_id: Uuid) -> (Option<String>, Value) {
        let Some(row) = self.customers.get(customer_id) else {
            return (None, Value::Null);
        };
        let name = row.billing_name.as_ref().or(row.name.as_ref());
        (name.cloned(), row.billing_address.clone())
    }

    /// An order of a subscription's whole period at its present price, with what earlier changes left to be charged or
    /// given back; announced as `order.created`.
    pub(crate) fn place_order(
        &mut self,
        subscription_id: Uuid,
        reason: &'static str,
        status: &'static str,
    ) -> Uuid {
        let Some(row) = self.subscriptions.get(subscription_id).cloned() else {
            return Uuid::nil();
        };
        let product = self.products.get(row.product_id);
        let price = product.map_or(0, |product| product.price_amount);
        let period = OrderItem {
            id: self.fresh_id(),
            label: String::new(),
            amount: price,
            tax: tax_on(row.amount),
            proration: false,
        };
        let mut items = vec![period];
        if let Some(row) = self.subscriptions.get_mut(subscription_id) {
            items.append(&mut row.prorations);
        }
        self.insert_order(&row, items, price - row.amount, reason, status)
    }

    /// An order of these lines, less what the customer has to its credit.
    pub(crate) fn insert_order(
        &mut self,
        row: &Subscription,
        items: Vec<OrderItem>,
        discount: i64,
        reason: &'static str,
        status: &'static str,
    ) -> Uuid {
        let (id, now) = (self.fresh_id(), self.now());
        let (billing_name, billing_address) = self.billing_details(row.customer_id);
        let product = self.products.get(row.product_id);
        let description = product.map_or(String::new(), |product| product.name.clone());
        let subtotal: i64 = items.iter().map(|item| item.amount).sum();
        let tax: i64 = items.iter().map(|item| item.tax).sum();
        let applied_balance = self.use_balance(row.customer_id, subtotal - discount + tax);
        let number = self.orders.len() + 1;
        self.orders.insert(Order {
            id,
            created_at: now,
            modified_at: None,
            customer_id: row.customer_id,
            product_id: Some(row.product_id),
            subscription_id: Some(row.id),
            checkout_id: row.checkout_id,
            discount_id: row.discount_id,
            status,
            billing_reason: reason,
            subtotal,
            discount,
            tax,
            applied_balance,
            billing_name,
            billing_address,
            invoice_number: Some(format!("SELF-{number:04}")),
            invoice_generated: false,
            description,
            items,
        });
        self.announce_order(id, &["order.created"]);
        id
    }

    /// Takes from a customer's balance what an order needs, or adds what it gives back.
    fn use_balance(&mut self, customer_id: Uuid, total: i64) -> i64 {
        let Some(row) = self.customers.get_mut(customer_id) else {
            return 0;
        };
        let applied = if total < 0 {
            -total
        } else {
            -total.min(row.balance)
        };
        row.balance += applied;
        applied.min(0)
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

    pub(crate) fn void_pending_orders(&mut self, subscription_id: Uuid) {
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

    /// The first charge succeeded after all: the subscription begins.
    pub(crate) fn complete_subscription(&mut self, id: Uuid) {
        self.recover_subscription(id);
        self.grant_missing(id);
    }

    /// The first charge never succeeded: the subscription ends before it began.
    pub(crate) fn expire_incomplete(&mut self, id: Uuid) {
        self.change(id, |row, now| {
            row.status = "incomplete_expired";
            row.ended_at = Some(now);
        });
        self.announce_subscription(id, &["subscription.updated"]);
        self.void_pending_orders(id);
    }

    /// Attaches or clears a discount; a redemption stays counted for ever.
    pub(crate) fn attach_discount(&mut self, id: Uuid, discount_id: Option<Uuid>) {
        self.redeem(discount_id);
        let product = self
            .subscriptions
            .get(id)
            .map_or(Uuid::nil(), |row| row.product_id);
        let amount = self.amount(product, discount_id);
        self.change(id, |row, now| {
            row.discount_id = discount_id;
            row.discount_applied_at = discount_id.map(|_| now);
            row.amount = amount;
        });
        self.announce_subscription(id, &["subscription.updated"]);
    }

    /// Whether a discount is there, is for this product, and is not used up.
    pub(crate) fn can_redeem(&self, discount: Uuid, product: Uuid) -> bool {
        let living = self.discounts.get(discount).filter(|row| !row.deleted);
        living.is_some_and(|row| {
            let applies = row.products.is_empty() || row.products.contains(&product);
            applies
                && row
                    .max_redemptions
                    .is_none_or(|most| row.redemptions < most)
        })
    }

    /// Counts a redemption.
    pub(crate) fn redeem(&mut self, discount_id: Option<Uuid>) {
        if let Some(discount) = discount_id.and_then(|id| self.discounts.get_mut(id)) {
            discount.redemptions += 1;
        }
    }

    /// Lets go of a discount that was for the periods before this one: `once`, or for some months.
    pub(crate) fn drop_spent_discount(&mut self, id: Uuid) {
        let spent = self.subscriptions.get(id).is_some_and(|row| {
            let discount = row.discount_id.and_then(|id| self.discounts.get(id));
            let applied = discount.zip(row.discount_applied_at);
            applied.is_some_and(|(discount, at)| discount.is_spent(at, row.period_start))
        });
        if spent {
            self.attach_discount(id, None);
        }
    }
}

impl Discount {
    /// Whether a period that starts at `period_start` no longer has the discount applied at `applied_at`.
    fn is_spent(&self, applied_at: Moment, period_start: Moment) -> bool {
        match self.request.get("duration").and_then(Value::as_str) {
            Some("once") => period_start > applied_at,
            Some("repeating") => {
                let months = self.request.get("duration_in_months");
                let months = months.and_then(Value::as_u64).unwrap_or(1);
                let months = Months::new(u32::try_from(months).unwrap_or(u32::MAX));
                applied_at
                    .checked_add_months(months)
                    .is_some_and(|end| period_start >= end)
            }
            _ => false,
        }
    }
}
