//! Which changes of a subscription are refused, with which name, was measured case by case.

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
        refuse_locked(row)?;
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

    fn redeemable(&self, value: &Value, product: Uuid) -> Result<Option<Uuid>, Refusal> {
        let Some(text) = value.as_str() else {
            return Ok(None);
        };
        let id = parse_uuid(text, at(&["body", "SubscriptionUpdateBase", "discount_id"]));
        let id = id.map_err(|fault| Refusal::schema(vec![fault]))?;
        // The subscription's own earlier redemption counts too.
        if self.can_redeem(id, product) {
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
            .map(|value| self.redeemable(value, product.unwrap_or(row.product_id)))
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
        self.move_to_product(row.id, product, discount, proration);
        Ok(())
    }

    /// Without a card that pays nothing changes, a pending update survives, no order is left.
    fn refuse_unpayable(
        &self,
        row: &Subscription,
        product: Uuid,
        discount: Option<Uuid>,
        proration: Proration,
    ) -> Result<(), Refusal> {
        if proration != Proration::Invoice {
            return Ok(());
        }
        let items = self.proration_items(row, product, self.amount(product, discount));
        let due = items.iter().map(|item| item.amount + item.tax).sum::<i64>();
        let owed: i64 = row
            .prorations
            .iter()
            .map(|item| item.amount + item.tax)
            .sum();
        let balance = self.living_customer(row.customer_id);
        let balance = balance.map_or(0, |customer| customer.balance);
        self.chargeable(row.id, due + owed - balance)
            .map_err(|reason| {
                let detail = format!("Payment failed with reason: {reason}.");
                Refusal::named(402, "PaymentFailed", detail)
            })
    }
}

/// Something else changes this subscription at Polar.
pub(crate) fn refuse_locked(row: &Subscription) -> Result<(), Refusal> {
    if !row.locked {
        return Ok(());
    }
    let detail = "This subscription is pending an update.";
    Err(Refusal::named(409, "SubscriptionLocked", detail))
}
