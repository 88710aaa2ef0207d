//! A plan changed in the middle of a period is charged for what is left of it, less what was paid for and not used.
//! Tests move the clock to see it, so the lines are exact to the cent.

use uuid::Uuid;

use crate::world::billing::tax_on;
use crate::world::lifecycle::Proration;
use crate::world::model::{OrderItem, Subscription};
use crate::world::store::Store;

impl Store {
    /// What a change to `product_id` at `new_amount` charges and gives back now. A trial costs nothing, so neither does a
    /// change in it.
    pub(crate) fn proration_items(
        &self,
        row: &Subscription,
        product_id: Uuid,
        new_amount: i64,
    ) -> Vec<OrderItem> {
        if row.status == "trialing" {
            return Vec::new();
        }
        let name = |id| {
            let product = self.products.get(id);
            product.map_or(String::new(), |product| product.name.clone())
        };
        let whole_period = self.other_interval(row, product_id);
        let charged = if whole_period {
            new_amount
        } else {
            self.rest_of(row, new_amount)
        };
        let lines = [
            (
                format!("Unused time on {}", name(row.product_id)),
                -self.rest_of(row, row.amount),
            ),
            (format!("Remaining time on {}", name(product_id)), charged),
        ];
        let lines = lines.into_iter().filter(|(_, amount)| *amount != 0);
        let item = |(label, amount)| OrderItem {
            id: self.fresh_id(),
            label,
            amount,
            tax: tax_on(amount),
            proration: true,
        };
        lines.map(item).collect()
    }

    /// Cents that the next period costs, whatever plan it will be.
    pub(crate) fn due_for_next_period(&self, id: Uuid) -> i64 {
        let Some(row) = self.subscriptions.get(id) else {
            return 0;
        };
        let pending = row.pending.as_ref();
        let product = pending.map_or(row.product_id, |pending| pending.product_id);
        let discount = pending.and_then(|pending| pending.discount_id);
        let prorations: i64 = row.prorations.iter().map(|item| item.amount).sum();
        self.amount(product, discount.unwrap_or(row.discount_id)) + prorations
    }

    /// The share of `amount` for what is left of the period, to the nearest cent.
    fn rest_of(&self, row: &Subscription, amount: i64) -> i64 {
        let whole = (row.period_end - row.period_start).num_seconds().max(1);
        let rest = (row.period_end - self.now()).num_seconds().clamp(0, whole);
        (2 * amount * rest + whole) / (2 * whole)
    }

    pub(crate) fn other_interval(&self, row: &Subscription, product_id: Uuid) -> bool {
        let interval = |id| self.products.get(id).map(|product| &product.interval);
        interval(row.product_id) != interval(product_id)
    }

    /// Puts a subscription on another product, and with `discount` under another one or none, now; the difference is
    /// charged now or with the next order.
    pub(crate) fn move_to_product(
        &mut self,
        id: Uuid,
        product_id: Uuid,
        discount: Option<Option<Uuid>>,
        proration: Proration,
    ) {
        let Some(row) = self.subscriptions.get(id).cloned() else {
            return;
        };
        let amount = self.amount(product_id, discount.unwrap_or(row.discount_id));
        let mut items = self.proration_items(&row, product_id, amount);
        if let Some(discount) = discount {
            self.attach_discount(id, discount);
        }
        if self.other_interval(&row, product_id) {
            let (start, end) = (self.now(), self.next_period_end(product_id, self.now()));
            self.change(id, |row, _| {
                (row.period_start, row.period_end) = (start, end)
            });
        }
        self.switch_product(id, product_id, true);
        if let Some(row) = self.subscriptions.get_mut(id) {
            row.prorations.append(&mut items);
        }
        if proration == Proration::Invoice {
            self.charge_prorations(id);
        }
    }

    /// Makes an order of what changes left to be charged, and takes the money. Whether it can be taken was asked before.
    fn charge_prorations(&mut self, id: Uuid) {
        let Some(row) = self.subscriptions.get_mut(id) else {
            return;
        };
        let items = std::mem::take(&mut row.prorations);
        let row = row.clone();
        if items.is_empty() {
            return;
        }
        let order = self.insert_order(&row, items, 0, "subscription_update", "pending");
        self.pay_order(order);
    }
}
