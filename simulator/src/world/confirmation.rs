//! A checkout becomes a subscription when a person pays on its page; the card may be declined, the link may be old, and
//! the same person may have paid in another tab.

use serde_json::{Value, json};
use thiserror::Error;
use uuid::Uuid;

use crate::world::lifecycle::Start;
use crate::world::model::Checkout;
use crate::world::store::Store;

/// The cards that a buyer can choose on the page: their last digits, what they do, and whether each charge is refused.
pub(crate) const CARDS: [TestCard; 3] = [
    TestCard {
        last4: "4242",
        what: "pays",
    },
    TestCard {
        last4: "0341",
        what: "pays now, every later charge is declined",
    },
    TestCard {
        last4: DECLINED,
        what: "is declined",
    },
];
const DECLINED: &str = "0002";
const DECLINED_LATER: &str = "0341";

/// A card of the page.
#[derive(Debug)]
pub(crate) struct TestCard {
    pub(crate) last4: &'static str,
    pub(crate) what: &'static str,
}

/// Why a checkout is not paid; the words are for the buyer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum ConfirmError {
    #[error("This checkout session has expired.")]
    Expired,
    #[error("You already have an active subscription.")]
    AlreadySubscribed,
    #[error("Discount is no longer redeemable.")]
    DiscountGone,
    #[error("Choose a plan of this checkout and a card.")]
    Incomplete,
    #[error("Your card was declined. Please try again with a different payment method.")]
    Declined,
}

impl Store {
    /// The checkout behind a link, expired if it is over.
    pub(crate) fn checkout_by_secret(&mut self, secret: &str) -> Option<&Checkout> {
        let row = self.checkouts.iter().find(|row| row.secret() == secret)?;
        let (id, over) = (row.id, row.expires_at() <= self.now());
        if over && row.status == "open" {
            self.set_checkout_status(id, "expired");
        }
        self.checkouts.get(id)
    }

    /// A person pays: subscription, order, grants and deliveries as after any purchase. Paying twice buys once.
    pub(crate) fn confirm_checkout(
        &mut self,
        id: Uuid,
        product: Option<Uuid>,
        last4: &str,
    ) -> Result<(), ConfirmError> {
        let Some(row) = self.checkouts.get(id).cloned() else {
            return Err(ConfirmError::Expired);
        };
        match row.status {
            "succeeded" => return Ok(()),
            "open" => {}
            _ => return Err(ConfirmError::Expired),
        }
        let product = product.or(row.products.first().copied());
        let product = product.filter(|id| row.products.contains(id));
        let card = CARDS.iter().find(|card| card.last4 == last4);
        let (Some(product), Some(card), Some(customer)) = (product, card, row.customer_id) else {
            return Err(ConfirmError::Incomplete);
        };
        if self.has_other_subscription(customer, row.subscription_id) {
            return Err(ConfirmError::AlreadySubscribed);
        }
        if row
            .discount_id
            .is_some_and(|id| !self.can_redeem(id, product))
        {
            return Err(ConfirmError::DiscountGone);
        }
        if card.last4 == DECLINED {
            return Err(ConfirmError::Declined);
        }
        self.set_checkout_status(id, "confirmed");
        let declines = card.last4 == DECLINED_LATER;
        let card = self.add_card(customer, card.last4, declines);
        self.take_billing_address(customer);
        self.redeem(row.discount_id);
        let subscription = self.subscribe(&row, customer, product);
        if let Some(row) = self.subscriptions.get_mut(subscription) {
            row.payment_method = Some(card);
        }
        self.set_checkout_status(id, "succeeded");
        Ok(())
    }

    /// One running subscription a customer: the organization's setting at Polar.
    fn has_other_subscription(&self, customer: Uuid, upgraded: Option<Uuid>) -> bool {
        self.subscriptions.iter().any(|row| {
            row.customer_id == customer
                && Some(row.id) != upgraded
                && matches!(row.status, "active" | "trialing" | "past_due")
        })
    }

    fn take_billing_address(&mut self, customer: Uuid) {
        let now = self.now();
        if let Some(row) = self.customers.get_mut(customer) {
            if row.billing_address.is_null() {
                row.billing_address = json!({
                    "line1": "1 Main", "line2": Value::Null, "postal_code": "90001", "city": "Springfield",
                    "state": "US-CA", "country": "US",
                });
            }
            row.modified_at = Some(now);
        }
        self.announce_customer(customer);
    }

    /// A new subscription, or the free one that this checkout was opened for on a paid plan.
    fn subscribe(&mut self, checkout: &Checkout, customer: Uuid, product: Uuid) -> Uuid {
        let upgraded = checkout.subscription_id;
        let id = match upgraded {
            Some(id) => {
                self.change(id, |row, now| {
                    row.checkout_id = Some(checkout.id);
                    row.discount_id = checkout.discount_id;
                    row.discount_applied_at = checkout.discount_id.map(|_| now);
                    row.period_start = now;
                });
                let end = self.next_period_end(product, self.now());
                self.change(id, |row, _| row.period_end = end);
                self.switch_product(id, product, true);
                id
            }
            None => {
                let from = Some((checkout.id, checkout.discount_id));
                self.start_subscription(customer, product, from, Start::Active)
            }
        };
        let reason = if upgraded.is_some() {
            "subscription_update"
        } else {
            "subscription_create"
        };
        let order = self.place_order(id, reason, "pending");
        self.pay_order(order);
        self.grant_missing(id);
        id
    }
}
