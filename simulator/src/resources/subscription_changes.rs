//! Why: which changes of a subscription are refused, with which name, was measured case by case.

use crate::resources::call::{Outcome, Reply, parse_uuid};
use crate::resources::errors::{Refusal, at};
use crate::world::lifecycle::Proration;
use crate::world::model::Subscription;
use crate::world::store::Store;
use serde_json::{Map, Value};
use uuid::Uuid;

fn already_canceled() -> Refusal {
    let detail = "This subscription is already canceled or will be at the end of the period.";
    Refusal::named(403, "AlreadyCanceledSubscription", detail)
}

/// Unpaid and canceled refuse, paused only where not `allowed`, and so does one that is cancelling.
pub(crate) fn refuse_canceled(row: &Subscription, allowed: &[&str]) -> Result<(), Refusal> {
    let fine =
        matches!(row.status, "active" | "trialing" | "past_due") || allowed.contains(&row.status);
    if fine && !row.cancel_at_period_end {
        Ok(())
    } else {
        Err(already_canceled())
    }
}

impl Proration {
    /// What a request asks for; Polar's default is to charge with the next order.
    fn asked(object: &Map<String, Value>) -> Self {
        match object.get("proration_behavior").and_then(Value::as_str) {
            Some("next_period") => Self::NextPeriod,
            Some("invoice" | "reset") => Self::Invoice,
            _ => Self::Prorate,
        }
    }
}

impl Store {
    pub(crate) fn revoke_by_request(&mut self, id: Uuid) -> Outcome {
        let row = self
            .subscriptions
            .get(id)
            .ok_or_else(|| Refusal::not_found("Not found"))?;
        if row.ended_at.is_some() {
            return Err(already_canceled());
        }
        self.revoke_subscription(id);
        self.show_subscription(id, Reply::ok)
    }

    pub(crate) fn cancel_by_request(
        &mut self,
        row: &Subscription,
        cancel: bool,
    ) -> Result<(), Refusal> {
        if cancel {
            refuse_canceled(row, &[])?;
            self.cancel_subscription(row.id);
        } else if row.cancel_at_period_end {
            self.uncancel_subscription(row.id);
        } else {
            // Nothing to take back.
            return Err(Refusal::named(400, "BadRequest", "Bad request"));
        }
        Ok(())
    }

    /// The product a request names, if it may be used.
    pub(crate) fn known_product(&self, value: &Value) -> Result<Uuid, Refusal> {
        let parsed = parse_uuid(value.as_str().unwrap_or(""), at(&["body", "product_id"]));
        let id = parsed.map_err(|fault| Refusal::schema(vec![fault]))?;
        match self.products.get(id) {
            None => Err(Refusal::about(
                "product_id",
                "Product does not exist.",
                value.clone(),
            )),
            Some(product) if product.archived => Err(Refusal::about(
                "product_id",
                "Product is archived.",
                value.clone(),
            )),
            Some(_) => Ok(id),
        }
    }

    pub(crate) fn redeemable(&self, value: &Value) -> Result<Option<Uuid>, Refusal> {
        let Some(text) = value.as_str() else {
            return Ok(None);
        };
        let id = parse_uuid(text, at(&["body", "SubscriptionUpdateBase", "discount_id"]));
        let id = id.map_err(|fault| Refusal::schema(vec![fault]))?;
        let discount = self.discounts.get(id).filter(|discount| !discount.deleted);
        // The subscription's own earlier redemption counts too.
        let free = |discount: &&crate::world::model::Discount| {
            discount
                .max_redemptions
                .is_none_or(|most| discount.redemptions < most)
        };
        if discount.filter(free).is_some() {
            return Ok(Some(id));
        }
        let message =
            "Discount does not exist, is not applicable to this product or is not redeemable.";
        Err(Refusal::about("discount_id", message, value.clone()))
    }

    pub(crate) fn change_by_request(
        &mut self,
        row: &Subscription,
        object: &Map<String, Value>,
    ) -> Result<(), Refusal> {
        let product = object.get("product_id").filter(|value| !value.is_null());
        let product = product.map(|value| self.known_product(value)).transpose()?;
        let discount = object
            .get("discount_id")
            .map(|value| self.redeemable(value))
            .transpose()?;
        let Some(product) = product else {
            if let Some(discount) = discount {
                self.attach_discount(row.id, discount);
            }
            return Ok(());
        };
        refuse_canceled(row, &["paused"])?;
        let proration = Proration::asked(object);
        if proration == Proration::NextPeriod {
            self.postpone(row.id, product, discount);
            return Ok(());
        }
        self.refuse_unpayable(row, product, discount.unwrap_or(row.discount_id), proration)?;
        if let Some(discount) = discount {
            self.attach_discount(row.id, discount);
        }
        self.move_to_product(row.id, product, proration);
        Ok(())
    }

    /// Without a card nothing changes, a pending update survives, no order is left.
    fn refuse_unpayable(
        &self,
        row: &Subscription,
        product: Uuid,
        discount: Option<Uuid>,
        proration: Proration,
    ) -> Result<(), Refusal> {
        let customer = self.living_customer(row.customer_id);
        let card = customer.and_then(|customer| customer.default_payment_method);
        let dearer = self.amount(product, discount) > row.amount;
        if proration == Proration::Invoice && dearer && card.is_none() {
            let detail = "Payment failed with reason: missing_payment_method.";
            return Err(Refusal::named(402, "PaymentFailed", detail));
        }
        Ok(())
    }
}
