//! What people and Polar do by themselves, called from tests and from `dev`.

use crate::simulator::Simulator;
use crate::world::catalogue::Product;
use crate::world::lifecycle::Start;
use crate::world::steps::{Buyer, SubscriptionStep, WorldError};
use serde_json::{Map, Value};
use uuid::Uuid;

/// The states of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderStatus {
    /// Not final yet; has no invoice.
    Draft,
    /// Waits for its money.
    Pending,
    /// Paid.
    Paid,
    /// Never to be paid; has no invoice.
    Void,
}

impl OrderStatus {
    fn word(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Pending => "pending",
            Self::Paid => "paid",
            Self::Void => "void",
        }
    }
}

impl Simulator {
    /// Checkout and payment; answers the subscription's id.
    ///
    /// # Errors
    /// The customer or the plan does not exist.
    pub async fn purchase(
        &self,
        external_customer_id: &str,
        product: Product,
    ) -> Result<Uuid, WorldError> {
        self.purchase_as(external_customer_id, product, Start::Active)
            .await
    }

    /// As [`Simulator::purchase`], beginning with a trial or with a charge that has not succeeded yet.
    ///
    /// # Errors
    /// The customer or the plan does not exist.
    pub async fn purchase_as(
        &self,
        external_customer_id: &str,
        product: Product,
        start: Start,
    ) -> Result<Uuid, WorldError> {
        let buyer = Buyer::External(external_customer_id.to_owned());
        self.shared.lock().buy(&buyer, product, start)
    }

    /// Checkout and payment of a customer by Polar's id; made by hand, it may have no other.
    ///
    /// # Errors
    /// The customer or the plan does not exist.
    pub async fn purchase_for(&self, customer: Uuid, product: Product) -> Result<Uuid, WorldError> {
        let mut store = self.shared.lock();
        store.buy(&Buyer::Id(customer), product, Start::Active)
    }

    /// Lets something happen to one subscription: a customer may have several.
    ///
    /// # Errors
    /// There is none with this id, or its state does not allow it.
    pub async fn step_on(
        &self,
        subscription: Uuid,
        step: SubscriptionStep,
    ) -> Result<(), WorldError> {
        self.shared.lock().take_step(subscription, step)
    }

    /// Lets something happen to the customer's running subscription.
    ///
    /// # Errors
    /// There is none, or its state does not allow it.
    pub async fn step(
        &self,
        external_customer_id: &str,
        step: SubscriptionStep,
    ) -> Result<(), WorldError> {
        let mut store = self.shared.lock();
        let id = store.running_subscription(external_customer_id)?;
        store.take_step(id, step)
    }

    /// Another plan, at once and paid. `new_first`: the new grants come before the old ones go.
    ///
    /// # Errors
    /// No running subscription, or no such plan.
    pub async fn change_plan(
        &self,
        external_customer_id: &str,
        product: Product,
        new_first: bool,
    ) -> Result<(), WorldError> {
        self.shared
            .lock()
            .change_plan(external_customer_id, product, new_first)
    }

    /// The period turns and the charge succeeds.
    ///
    /// # Errors
    /// As [`Simulator::step`].
    pub async fn renew(&self, external_customer_id: &str) -> Result<(), WorldError> {
        self.step(external_customer_id, SubscriptionStep::Renew)
            .await
    }

    /// The period turns and the charge fails: past due.
    ///
    /// # Errors
    /// As [`Simulator::step`].
    pub async fn fail_payment(&self, external_customer_id: &str) -> Result<(), WorldError> {
        self.step(external_customer_id, SubscriptionStep::FailPayment)
            .await
    }

    /// The failed charge is made good.
    ///
    /// # Errors
    /// As [`Simulator::step`].
    pub async fn recover_payment(&self, external_customer_id: &str) -> Result<(), WorldError> {
        self.step(external_customer_id, SubscriptionStep::RecoverPayment)
            .await
    }

    /// The customer cancels; access lasts to the period's end.
    ///
    /// # Errors
    /// As [`Simulator::step`].
    pub async fn cancel_at_period_end(&self, external_customer_id: &str) -> Result<(), WorldError> {
        self.step(external_customer_id, SubscriptionStep::CancelAtPeriodEnd)
            .await
    }

    /// The customer takes a cancellation back.
    ///
    /// # Errors
    /// As [`Simulator::step`].
    pub async fn uncancel(&self, external_customer_id: &str) -> Result<(), WorldError> {
        self.step(external_customer_id, SubscriptionStep::Uncancel)
            .await
    }

    /// Ends the subscription at once.
    ///
    /// # Errors
    /// As [`Simulator::step`].
    pub async fn revoke(&self, external_customer_id: &str) -> Result<(), WorldError> {
        self.step(external_customer_id, SubscriptionStep::Revoke)
            .await
    }

    /// Pauses now; benefits are withdrawn.
    ///
    /// # Errors
    /// As [`Simulator::step`].
    pub async fn pause(&self, external_customer_id: &str) -> Result<(), WorldError> {
        self.step(external_customer_id, SubscriptionStep::Pause)
            .await
    }

    /// Ends the pause, charged at once.
    ///
    /// # Errors
    /// As [`Simulator::step`].
    pub async fn resume(&self, external_customer_id: &str) -> Result<(), WorldError> {
        self.step(external_customer_id, SubscriptionStep::Resume)
            .await
    }

    /// Gives the customer's plan another benefit of the same type in place of the old: the upgrade's moment, alone.
    ///
    /// # Errors
    /// The plan has no benefit of that type.
    pub async fn replace_benefit(
        &self,
        product: Product,
        benefit_type: &str,
        metadata: Map<String, Value>,
    ) -> Result<Uuid, WorldError> {
        self.shared
            .lock()
            .replace_benefit(product, benefit_type, metadata)
    }

    /// Edits the metadata of a plan's benefit; Polar announces `benefit.updated` and nothing else.
    ///
    /// # Errors
    /// The plan has no benefit of that type.
    pub async fn edit_benefit_metadata(
        &self,
        product: Product,
        benefit_type: &str,
        metadata: Map<String, Value>,
    ) -> Result<(), WorldError> {
        let mut store = self.shared.lock();
        let id = store.plan_benefit(product, benefit_type)?;
        store.edit_benefit(id, Some(metadata), None);
        Ok(())
    }

    /// Sets which benefits a plan has, by their ids; its subscribers gain and lose what changed.
    ///
    /// # Errors
    /// The plan does not exist.
    pub async fn set_benefits_of_product(
        &self,
        product: Product,
        benefits: Vec<Uuid>,
    ) -> Result<(), WorldError> {
        let mut store = self.shared.lock();
        let id = store
            .plan(product)
            .ok_or_else(|| WorldError::UnknownProduct(product.name().into()))?;
        store.put_benefits(id, benefits);
        Ok(())
    }

    /// Adds a benefit that no plan has yet.
    pub async fn add_benefit(&self, description: &str, metadata: Map<String, Value>) -> Uuid {
        self.shared.lock().insert_benefit(
            description,
            metadata,
            serde_json::json!({"note": "Comes with the plan."}),
        )
    }

    /// Sets or clears a customer's billing address and card; orders made later copy the address.
    ///
    /// # Errors
    /// The customer does not exist.
    pub async fn set_billing_details(
        &self,
        external_customer_id: &str,
        address: Value,
        card: bool,
    ) -> Result<(), WorldError> {
        self.shared
            .lock()
            .bill_to(external_customer_id, address, card)
    }

    /// Changes an order's status without a word: `draft`, `pending`, `paid` or `void`.
    ///
    /// # Errors
    /// No such order.
    pub async fn set_order_status(
        &self,
        order: Uuid,
        status: OrderStatus,
    ) -> Result<(), WorldError> {
        let mut store = self.shared.lock();
        store
            .orders
            .get(order)
            .ok_or(WorldError::UnknownOrder(order))?;
        store.set_order_status(order, status.word());
        Ok(())
    }

    /// Changes why an order was made, such as `purchase`, without a word.
    ///
    /// # Errors
    /// No such order.
    pub async fn set_billing_reason(
        &self,
        order: Uuid,
        reason: &'static str,
    ) -> Result<(), WorldError> {
        let mut store = self.shared.lock();
        let row = store.orders.get_mut(order);
        row.ok_or(WorldError::UnknownOrder(order))?.billing_reason = reason;
        Ok(())
    }

    /// Money for an order arrives: `order.updated`, `order.paid`.
    ///
    /// # Errors
    /// No such order.
    pub async fn pay_order(&self, order: Uuid) -> Result<(), WorldError> {
        let mut store = self.shared.lock();
        store
            .orders
            .get(order)
            .ok_or(WorldError::UnknownOrder(order))?;
        store.pay_order(order);
        Ok(())
    }

    /// Adds a card to a customer; the first one becomes the default. Every charge to one that `declines` is refused.
    ///
    /// # Errors
    /// The customer does not exist.
    pub async fn add_card(
        &self,
        external_customer_id: &str,
        last4: &str,
        declines: bool,
    ) -> Result<Uuid, WorldError> {
        let mut store = self.shared.lock();
        let customer = store.known_customer(external_customer_id)?;
        Ok(store.add_card(customer, last4, declines))
    }

    /// Adds a payment method that is no card.
    ///
    /// # Errors
    /// The customer does not exist.
    pub async fn add_other_payment_method(
        &self,
        external_customer_id: &str,
    ) -> Result<Uuid, WorldError> {
        let mut store = self.shared.lock();
        let customer = store.known_customer(external_customer_id)?;
        Ok(store.add_payment_method(customer, None, false))
    }

    /// Gives a plan a benefit that opens a shared Slack channel; its subscribers hold it from now on.
    ///
    /// # Errors
    /// The plan does not exist.
    pub async fn add_slack_benefit(&self, product: Product) -> Result<Uuid, WorldError> {
        self.shared.lock().add_slack_benefit(product)
    }

    /// Somebody accepts the invitation to a shared Slack channel: the grant is connected.
    ///
    /// # Errors
    /// No such grant.
    pub async fn connect_slack(&self, grant: Uuid) -> Result<(), WorldError> {
        self.shared.lock().connect_slack(grant)
    }
}
