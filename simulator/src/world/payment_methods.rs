//! Whether a charge succeeds depends on the card behind it. Cards come with checkouts or by hand, and some of them are
//! declined.

use uuid::Uuid;

use crate::world::model::{Card, Moment, PaymentMethod, Subscription};
use crate::world::outbox::Payload;
use crate::world::store::Store;

/// Why a charge fails, in the words of the 402.
const NO_CARD: &str = "missing_payment_method";
const DECLINED: &str = "card_error";

/// Shown of every card: none has run out before the year is over in which the last test moves the clock.
pub(crate) const EXPIRY: (u8, u16) = (12, 2040);

impl Store {
    /// A customer's payment methods, newest first.
    pub(crate) fn payment_methods_of(&self, customer_id: Uuid) -> Vec<&PaymentMethod> {
        let all = self.payment_methods.iter().rev();
        all.filter(|row| row.customer_id == customer_id && !row.deleted)
            .collect()
    }

    /// A living payment method of this customer.
    pub(crate) fn payment_method(&self, customer_id: Uuid, id: Uuid) -> Option<&PaymentMethod> {
        let row = self.payment_methods.get(id)?;
        (row.customer_id == customer_id && !row.deleted).then_some(row)
    }

    /// Adds a card; the first one becomes the default.
    pub(crate) fn add_card(&mut self, customer_id: Uuid, last4: &str, declines: bool) -> Uuid {
        let card = Card {
            brand: "visa",
            last4: last4.to_owned(),
        };
        self.add_payment_method(customer_id, Some(card), declines)
    }

    /// Adds a payment method; the first one becomes the default.
    pub(crate) fn add_payment_method(
        &mut self,
        customer_id: Uuid,
        card: Option<Card>,
        declines: bool,
    ) -> Uuid {
        let (id, created_at): (Uuid, Moment) = (self.fresh_id(), self.now());
        self.payment_methods.insert(PaymentMethod {
            id,
            created_at,
            customer_id,
            card,
            declines,
            deleted: false,
        });
        if let Some(row) = self.customers.get_mut(customer_id) {
            row.default_payment_method = row.default_payment_method.or(Some(id));
        }
        id
    }

    /// What a new subscription of this customer is charged to.
    pub(crate) fn paying_with(&self, customer_id: Uuid) -> Option<Uuid> {
        self.customers
            .get(customer_id)
            .and_then(|row| row.default_payment_method)
    }

    /// Takes every payment method from a customer, as if all had been removed at the bank.
    pub(crate) fn remove_payment_methods(&mut self, customer_id: Uuid) {
        let ids: Vec<Uuid> = self
            .payment_methods_of(customer_id)
            .iter()
            .map(|row| row.id)
            .collect();
        for id in ids {
            self.replace_payment_method(customer_id, id, None);
        }
    }

    /// Deletes a payment method; what was charged to it is charged to `other` from now on.
    pub(crate) fn replace_payment_method(
        &mut self,
        customer_id: Uuid,
        id: Uuid,
        other: Option<Uuid>,
    ) {
        if let Some(row) = self.payment_methods.get_mut(id) {
            row.deleted = true;
        }
        for subscription in self.charged_to(id) {
            if let Some(row) = self.subscriptions.get_mut(subscription) {
                row.payment_method = other;
            }
        }
        let now = self.now();
        if let Some(row) = self.customers.get_mut(customer_id) {
            if row.default_payment_method == Some(id) {
                row.default_payment_method = other;
            }
            row.modified_at = Some(now);
        }
    }

    /// Running subscriptions that are charged to this payment method.
    pub(crate) fn charged_to(&self, id: Uuid) -> Vec<Uuid> {
        let running = self
            .subscriptions
            .iter()
            .filter(|row| matches!(row.status, "active" | "trialing" | "past_due"));
        running
            .filter(|row| row.payment_method == Some(id))
            .map(|row| row.id)
            .collect()
    }

    /// Makes a payment method the default. Money that is owed is asked for again, from that one.
    pub(crate) fn set_default_payment_method(&mut self, customer_id: Uuid, id: Uuid) {
        let Some(row) = self.customers.get_mut(customer_id) else {
            return;
        };
        row.default_payment_method = Some(id);
        let owing = self.subscriptions.iter().filter(|row| {
            row.customer_id == customer_id && row.status == "past_due" && row.ended_at.is_none()
        });
        for subscription in owing.map(|row| row.id).collect::<Vec<_>>() {
            if let Some(row) = self.subscriptions.get_mut(subscription) {
                row.payment_method = Some(id);
            }
            if self.chargeable(subscription, 1).is_ok() {
                self.recover_subscription(subscription);
            }
        }
    }

    /// Whether so many cents can be charged for a subscription; else why not.
    pub(crate) fn chargeable(&self, id: Uuid, cents: i64) -> Result<(), &'static str> {
        let Some(row) = self.subscriptions.get(id).filter(|_| cents > 0) else {
            return Ok(());
        };
        match self.pays(row) {
            None => Err(NO_CARD),
            Some(method) if method.declines => Err(DECLINED),
            Some(_) => Ok(()),
        }
    }

    fn pays(&self, row: &Subscription) -> Option<&PaymentMethod> {
        let id = row.payment_method.or(self.paying_with(row.customer_id))?;
        self.payment_method(row.customer_id, id)
    }

    /// Announces a customer that was changed.
    pub(crate) fn announce_customer(&mut self, id: Uuid) {
        self.announce("customer.updated", Payload::Customer(id));
        self.announce("customer.state_changed", Payload::CustomerState(id));
    }
}
