//! What people and Polar itself do is no API call of ours: they buy, fail to pay, cancel, come back. Each step leaves
//! the same rows and deliveries as the real thing.

use serde_json::{Value, json};
use thiserror::Error;
use uuid::Uuid;

use crate::world::catalogue::Product;
use crate::world::checkouts::Wanted;
use crate::world::lifecycle::Start;
use crate::world::model::Subscription;
use crate::world::store::Store;

/// Why a step is impossible.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WorldError {
    /// No living customer has this external id.
    #[error("no customer has the external id `{0}`; create it first")]
    UnknownCustomer(String),
    /// The customer, or id, has no subscription that has not ended.
    #[error("`{0}` has no running subscription")]
    NoSubscription(String),
    /// The seeded plan is gone, or no such product exists.
    #[error("no such product: {0}")]
    UnknownProduct(String),
    /// No benefit has this id or metadata type.
    #[error("no such benefit: {0}")]
    UnknownBenefit(String),
    /// No grant has this id.
    #[error("no such benefit grant: {0}")]
    UnknownGrant(Uuid),
    /// No order has this id.
    #[error("no such order: {0}")]
    UnknownOrder(Uuid),
    /// The subscription's state does not allow it.
    #[error("a subscription that is {status} cannot {step}")]
    WrongState {
        /// Its status.
        status: String,
        /// What was asked of it.
        step: &'static str,
    },
}

/// What can happen to a running subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscriptionStep {
    /// The period turns and the charge succeeds.
    Renew,
    /// The period turns and the charge fails: past due.
    FailPayment,
    /// The failed charge is made good.
    RecoverPayment,
    /// Nobody ever paid: dunning is exhausted, access ends.
    ExhaustDunning,
    /// The customer cancels; access lasts to the period's end.
    CancelAtPeriodEnd,
    /// The customer takes that back.
    Uncancel,
    /// Ended at once; pending orders are voided.
    Revoke,
    /// Paused now; benefits are withdrawn.
    Pause,
    /// The pause ends, charged at once.
    Resume,
    /// The first charge of an incomplete subscription succeeds.
    Complete,
    /// The first charge of an incomplete subscription never succeeds.
    Expire,
    /// Something else changes it at Polar: requests are refused until it is unlocked.
    Lock,
    /// Requests may change it again.
    Unlock,
}

impl SubscriptionStep {
    /// The step by its word in the control surface.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Some(match word {
            "renew" => Self::Renew,
            "past_due" => Self::FailPayment,
            "recover" => Self::RecoverPayment,
            "unpaid" => Self::ExhaustDunning,
            "cancel" => Self::CancelAtPeriodEnd,
            "uncancel" => Self::Uncancel,
            "revoke" => Self::Revoke,
            "pause" => Self::Pause,
            "resume" => Self::Resume,
            "complete" => Self::Complete,
            "expire" => Self::Expire,
            "lock" => Self::Lock,
            "unlock" => Self::Unlock,
            _ => return None,
        })
    }

    fn word(self) -> &'static str {
        match self {
            Self::Renew => "renew",
            Self::FailPayment => "fail to be paid",
            Self::RecoverPayment => "recover",
            Self::ExhaustDunning => "be given up",
            Self::CancelAtPeriodEnd => "be cancelled",
            Self::Uncancel => "be uncancelled",
            Self::Revoke => "be revoked",
            Self::Pause => "be paused",
            Self::Resume => "be resumed",
            Self::Complete => "be completed",
            Self::Expire => "expire",
            Self::Lock => "be locked",
            Self::Unlock => "be unlocked",
        }
    }

    fn possible(self, row: &Subscription) -> bool {
        let running = matches!(row.status, "active" | "trialing");
        match self {
            Self::Renew | Self::FailPayment | Self::Pause => running && !row.cancel_at_period_end,
            Self::RecoverPayment | Self::ExhaustDunning => row.status == "past_due",
            Self::CancelAtPeriodEnd => {
                (running || row.status == "past_due") && !row.cancel_at_period_end
            }
            Self::Uncancel => row.cancel_at_period_end,
            Self::Revoke => row.ended_at.is_none(),
            Self::Resume => row.status == "paused",
            Self::Complete | Self::Expire => row.status == "incomplete",
            Self::Lock | Self::Unlock => row.ended_at.is_none(),
        }
    }
}

/// Who buys: by the application's id or by Polar's, which every customer has.
#[derive(Debug, Clone)]
pub(crate) enum Buyer {
    /// The living customer with this external id.
    External(String),
    /// The living customer with this id.
    Id(Uuid),
}

impl Store {
    fn buyer(&self, buyer: &Buyer) -> Result<Uuid, WorldError> {
        match buyer {
            Buyer::External(external_id) => self.known_customer(external_id),
            Buyer::Id(id) => {
                let row = self.living_customer(*id).map(|row| row.id);
                row.ok_or_else(|| WorldError::UnknownCustomer(id.to_string()))
            }
        }
    }

    pub(crate) fn known_customer(&self, external_id: &str) -> Result<Uuid, WorldError> {
        let row = self.customer_by_external_id(external_id);
        row.map(|row| row.id)
            .ok_or_else(|| WorldError::UnknownCustomer(external_id.to_owned()))
    }

    /// The newest subscription of a customer that has not ended.
    pub(crate) fn running_subscription(&self, external_id: &str) -> Result<Uuid, WorldError> {
        let customer = self.known_customer(external_id)?;
        let of_customer = self
            .subscriptions
            .iter()
            .rev()
            .filter(|row| row.customer_id == customer);
        let running = of_customer
            .filter(|row| row.ended_at.is_none())
            .map(|row| row.id)
            .next();
        running.ok_or_else(|| WorldError::NoSubscription(external_id.to_owned()))
    }

    /// Checkout and payment: subscription, order, grants, and all deliveries in Polar's order.
    pub(crate) fn buy(
        &mut self,
        buyer: &Buyer,
        product: Product,
        start: Start,
    ) -> Result<Uuid, WorldError> {
        let customer = self.buyer(buyer)?;
        let product_id = self
            .plan(product)
            .ok_or_else(|| WorldError::UnknownProduct(product.name().into()))?;
        let row = self.customers.get(customer);
        let external_customer_id = row.and_then(|row| row.external_id.clone());
        let (products, customer_id) = (vec![product_id], Some(customer));
        let wanted = Wanted {
            products,
            customer_id,
            external_customer_id,
            ..Wanted::default()
        };
        let checkout = self.open_checkout(wanted);
        self.set_checkout_status(checkout, "confirmed");
        if product.price() > 0 {
            self.give_billing_details(customer);
        }
        let id = self.start_subscription(customer, product_id, Some((checkout, None)), start);
        if matches!(start, Start::Active | Start::Incomplete) {
            let order = self.place_order(id, "subscription_create", "pending");
            if start == Start::Incomplete {
                return Ok(id);
            }
            self.pay_order(order);
        }
        self.set_checkout_status(checkout, "succeeded");
        self.grant_missing(id);
        Ok(id)
    }

    /// A buyer leaves an address and a card, unless there are some.
    fn give_billing_details(&mut self, customer: Uuid) {
        let now = self.now();
        let Some(row) = self.customers.get_mut(customer) else {
            return;
        };
        if row.default_payment_method.is_some() && !row.billing_address.is_null() {
            return;
        }
        if row.billing_address.is_null() {
            row.billing_address = json!({
                "line1": "1 Main", "line2": null, "postal_code": "90001", "city": "Springfield", "state": "US-CA",
                "country": "US",
            });
        }
        row.modified_at = Some(now);
        if row.default_payment_method.is_none() {
            self.add_card(customer, "4242", false);
        }
        self.announce_customer(customer);
    }

    /// Sets or clears a customer's address and card; orders made later copy the address.
    pub(crate) fn bill_to(
        &mut self,
        external_id: &str,
        address: Value,
        card: bool,
    ) -> Result<(), WorldError> {
        let customer = self.known_customer(external_id)?;
        let now = self.now();
        if let Some(row) = self.customers.get_mut(customer) {
            row.modified_at = Some(now);
            row.billing_address = address;
        }
        if !card {
            self.remove_payment_methods(customer);
        } else if self.paying_with(customer).is_none() {
            self.add_card(customer, "4242", false);
        }
        Ok(())
    }

    /// Takes a step with one subscription.
    pub(crate) fn take_step(&mut self, id: Uuid, step: SubscriptionStep) -> Result<(), WorldError> {
        let row = self
            .subscriptions
            .get(id)
            .ok_or_else(|| WorldError::NoSubscription(id.to_string()))?;
        if !step.possible(row) {
            return Err(WorldError::WrongState {
                status: row.status.into(),
                step: step.word(),
            });
        }
        match step {
            SubscriptionStep::Renew => self.renew_subscription(id, true),
            SubscriptionStep::FailPayment => self.renew_subscription(id, false),
            SubscriptionStep::RecoverPayment => self.recover_subscription(id),
            SubscriptionStep::ExhaustDunning => self.give_up_subscription(id),
            SubscriptionStep::CancelAtPeriodEnd => self.cancel_subscription(id),
            SubscriptionStep::Uncancel => self.uncancel_subscription(id),
            SubscriptionStep::Revoke => self.revoke_subscription(id),
            SubscriptionStep::Pause => self.pause_subscription(id),
            SubscriptionStep::Resume => self.resume_subscription(id),
            SubscriptionStep::Complete => self.complete_subscription(id),
            SubscriptionStep::Expire => self.expire_incomplete(id),
            SubscriptionStep::Lock => self.change(id, |row, _| row.locked = true),
            SubscriptionStep::Unlock => self.change(id, |row, _| row.locked = false),
        }
        Ok(())
    }

    /// Another plan, at once and paid; `new_first` decides the order of grants and revocations.
    pub(crate) fn change_plan(
        &mut self,
        external: &str,
        product: Product,
        new_first: bool,
    ) -> Result<(), WorldError> {
        let id = self.running_subscription(external)?;
        let product_id = self
            .plan(product)
            .ok_or_else(|| WorldError::UnknownProduct(product.name().into()))?;
        self.switch_product(id, product_id, new_first);
        let order = self.place_order(id, "subscription_update", "pending");
        self.pay_order(order);
        Ok(())
    }

    /// The benefits of a plan whose `metadata.type` is `kind`.
    pub(crate) fn plan_benefit(&self, product: Product, kind: &str) -> Result<Uuid, WorldError> {
        let row = self.plan(product).and_then(|id| self.products.get(id));
        let row = row.ok_or_else(|| WorldError::UnknownProduct(product.name().into()))?;
        let benefits = row.benefits.iter().filter_map(|id| self.benefits.get(*id));
        let found = benefits
            .into_iter()
            .find(|benefit| benefit.metadata.get("type") == Some(&json!(kind)));
        found
            .map(|benefit| benefit.id)
            .ok_or_else(|| WorldError::UnknownBenefit(kind.to_owned()))
    }
}
