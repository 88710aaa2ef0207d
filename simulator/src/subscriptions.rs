//! Why: subscriptions are read and changed through body variants that cannot be mixed; the traps of (h.4), (h.5) and
//! R19–R24 live here.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::call::{Call, Outcome, Reply, parse_uuid};
use crate::clock::text;
use crate::errors::{Fault, Refusal, at};
use crate::lifecycle::Proration;
use crate::model::Subscription;
use crate::paging::{Page, one_of, sort, sortable, sorting};
use crate::store::Store;
use crate::subscription_body::check_variants;

const STATUSES: [&str; 8] = [
    "incomplete",
    "incomplete_expired",
    "trialing",
    "active",
    "past_due",
    "canceled",
    "unpaid",
    "paused",
];
const PROPERTIES: [&str; 9] = [
    "customer",
    "status",
    "started_at",
    "current_period_end",
    "ended_at",
    "ends_at",
    "amount",
    "product",
    "discount",
];

/// `GET /v1/subscriptions/`: newest start first unless sorted.
pub(crate) fn list(store: &mut Store, call: &Call) -> Outcome {
    let page = Page::of(call)?;
    let wishes = sorting(call, &PROPERTIES)?;
    let statuses = call.all("status");
    if statuses.iter().any(|status| !STATUSES.contains(status)) {
        return Err(bad_statuses(&statuses));
    }
    let customers = store.wanted_customers(call)?;
    let products = call.ids("product_id")?;
    let active = call.flag("active");
    let mut rows: Vec<&Subscription> = store.subscriptions.iter().rev().collect();
    rows.retain(|row| store.living_customer(row.customer_id).is_some() || row.ended_at.is_some());
    rows.retain(|row| {
        customers
            .as_ref()
            .is_none_or(|ids| ids.contains(&row.customer_id))
    });
    rows.retain(|row| statuses.is_empty() || statuses.contains(&row.status));
    rows.retain(|row| products.is_empty() || products.contains(&row.product_id));
    rows.retain(|row| {
        active.is_none_or(|active| active == matches!(row.status, "active" | "trialing"))
    });
    sort(&mut rows, &wishes, |row, property| match property {
        "status" => row.status.to_owned(),
        "current_period_end" => text(row.period_end),
        "ended_at" => row.ended_at.map(text).unwrap_or_default(),
        "ends_at" => row.ends_at.map(text).unwrap_or_default(),
        "amount" => sortable(row.amount),
        "customer" => row.customer_id.to_string(),
        "product" => row.product_id.to_string(),
        "discount" => row.discount_id.map(|id| id.to_string()).unwrap_or_default(),
        _ => text(row.started_at),
    });
    page.show(&rows, |row| store.subscription_view(row))
}

/// `POST /v1/subscriptions/`: only for free products.
pub(crate) fn create(store: &mut Store, call: &Call) -> Outcome {
    let object = call.object()?;
    let product = store.known_product(object.get("product_id").unwrap_or(&Value::Null))?;
    if store.amount(product, None) > 0 {
        let message = "Product is not free. The customer should go through a checkout to create a paid subscription.";
        return Err(service_fault("product_id", message, json!(product)));
    }
    let external = object.get("external_customer_id").and_then(Value::as_str);
    let customer = match external {
        Some(external) => store.customer_by_external_id(external).map(|row| row.id),
        None => {
            let id = object
                .get("customer_id")
                .and_then(Value::as_str)
                .unwrap_or("");
            let id = parse_uuid(id, at(&["body", "customer_id"]))
                .map_err(|fault| Refusal::schema(vec![fault]))?;
            store.living_customer(id).map(|row| row.id)
        }
    };
    let Some(customer) = customer else {
        let key = if external.is_some() {
            "external_customer_id"
        } else {
            "customer_id"
        };
        return Err(service_fault(
            key,
            "Customer does not exist.",
            object.get(key).cloned().unwrap_or_default(),
        ));
    };
    let id = store.start_subscription(customer, product, None);
    store.grant_missing(id);
    store.show_subscription(id, Reply::created)
}

/// `GET /v1/subscriptions/{id}`
pub(crate) fn get(store: &mut Store, call: &Call) -> Outcome {
    let id = call.id(0)?;
    store.show_subscription(id, Reply::ok)
}

/// `DELETE /v1/subscriptions/{id}`: revokes at once.
pub(crate) fn delete(store: &mut Store, call: &Call) -> Outcome {
    let id = call.id(0)?;
    store.revoke_by_request(id)
}

/// `PATCH /v1/subscriptions/{id}`
pub(crate) fn patch(store: &mut Store, call: &Call) -> Outcome {
    let id = call.id(0)?;
    let object = call.object()?.clone();
    check_variants(&object)?;
    let row = store
        .subscriptions
        .get(id)
        .ok_or_else(|| Refusal::not_found("Not found"))?
        .clone();
    if let Some(cancel) = object.get("cancel_at_period_end").and_then(Value::as_bool) {
        store.cancel_by_request(&row, cancel)?;
    } else if object.get("revoke").is_some() {
        return store.revoke_by_request(id);
    } else if let Some(pause) = object.get("pause_at_period_end").and_then(Value::as_bool) {
        refuse_canceled(&row, &[])?;
        store.change(id, |row, _| row.pause_at_period_end = pause);
        store.announce_subscription(id, &["subscription.updated"]);
    } else if object.get("resume").is_some() {
        if row.status != "paused" {
            return Err(Refusal::named(400, "BadRequest", "Bad request"));
        }
        store.resume_subscription(id);
    } else if object.contains_key("pending_update") {
        store.change(id, |row, _| row.pending = None);
        store.announce_subscription(id, &["subscription.updated"]);
    } else {
        store.change_by_request(&row, &object)?;
    }
    store.show_subscription(id, Reply::ok)
}

/// One entry for the list as a single value, and one per wrong value of the list (R11).
fn bad_statuses(statuses: &[&str]) -> Refusal {
    const LIST: &str = "json-or-python[json=list[str-enum[SubscriptionStatus]],python=chain[is-instance[Sequence],\
                        function-wrap[sequence_validator()]]]";
    let whole = at(&["query", "status", "str-enum[SubscriptionStatus]"]);
    let mut faults = vec![one_of(whole, &STATUSES, json!(statuses))];
    for (index, status) in statuses
        .iter()
        .enumerate()
        .filter(|(_, status)| !STATUSES.contains(status))
    {
        let mut loc = at(&["query", "status", LIST]);
        loc.push(index.into());
        faults.push(one_of(loc, &STATUSES, (*status).into()));
    }
    Refusal::schema(faults)
}

fn service_fault(key: &str, message: &str, input: Value) -> Refusal {
    Refusal::service(vec![Fault::new(
        "value_error",
        at(&["body", key]),
        message,
        input,
    )])
}

fn already_canceled() -> Refusal {
    let detail = "This subscription is already canceled or will be at the end of the period.";
    Refusal::named(403, "AlreadyCanceledSubscription", detail)
}

/// R22: unpaid and canceled refuse, paused only where not `allowed`, and so does one that is cancelling.
fn refuse_canceled(row: &Subscription, allowed: &[&str]) -> Result<(), Refusal> {
    let fine =
        matches!(row.status, "active" | "trialing" | "past_due") || allowed.contains(&row.status);
    if fine && !row.cancel_at_period_end {
        Ok(())
    } else {
        Err(already_canceled())
    }
}

impl Store {
    fn show_subscription(&self, id: Uuid, reply: fn(Value) -> Reply) -> Outcome {
        let row = self
            .subscriptions
            .get(id)
            .ok_or_else(|| Refusal::not_found("Not found"))?;
        Ok(reply(self.subscription_view(row)))
    }

    fn revoke_by_request(&mut self, id: Uuid) -> Outcome {
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

    fn cancel_by_request(&mut self, row: &Subscription, cancel: bool) -> Result<(), Refusal> {
        if cancel {
            refuse_canceled(row, &[])?;
            self.cancel_subscription(row.id);
        } else if row.cancel_at_period_end {
            self.uncancel_subscription(row.id);
        } else {
            // R23: nothing to take back.
            return Err(Refusal::named(400, "BadRequest", "Bad request"));
        }
        Ok(())
    }

    /// The product a request names, if it may be used.
    pub(crate) fn known_product(&self, value: &Value) -> Result<Uuid, Refusal> {
        let parsed = parse_uuid(value.as_str().unwrap_or(""), at(&["body", "product_id"]));
        let id = parsed.map_err(|fault| Refusal::schema(vec![fault]))?;
        match self.products.get(id) {
            None => Err(service_fault(
                "product_id",
                "Product does not exist.",
                value.clone(),
            )),
            Some(product) if product.archived => Err(service_fault(
                "product_id",
                "Product is archived.",
                value.clone(),
            )),
            Some(_) => Ok(id),
        }
    }

    fn redeemable(&self, value: &Value) -> Result<Option<Uuid>, Refusal> {
        let Some(text) = value.as_str() else {
            return Ok(None);
        };
        let id = parse_uuid(text, at(&["body", "SubscriptionUpdateBase", "discount_id"]));
        let id = id.map_err(|fault| Refusal::schema(vec![fault]))?;
        let discount = self.discounts.get(id).filter(|discount| !discount.deleted);
        // R20: the subscription's own earlier redemption counts too.
        let free = |discount: &&crate::model::Discount| {
            discount
                .max_redemptions
                .is_none_or(|most| discount.redemptions < most)
        };
        if discount.filter(free).is_some() {
            return Ok(Some(id));
        }
        let message =
            "Discount does not exist, is not applicable to this product or is not redeemable.";
        Err(service_fault("discount_id", message, value.clone()))
    }

    fn change_by_request(
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
        let proration = match object.get("proration_behavior").and_then(Value::as_str) {
            Some("next_period") => Proration::NextPeriod,
            Some("invoice" | "reset") => Proration::Invoice,
            _ => Proration::Prorate,
        };
        let Some(product) = product else {
            if let Some(discount) = discount {
                self.attach_discount(row.id, discount);
            }
            return Ok(());
        };
        refuse_canceled(row, &["paused"])?;
        if proration == Proration::NextPeriod {
            self.postpone(row.id, product, discount);
            return Ok(());
        }
        let card = self
            .living_customer(row.customer_id)
            .and_then(|customer| customer.default_payment_method);
        let wanted_discount = discount.unwrap_or(row.discount_id);
        let dearer = self.amount(product, wanted_discount) > row.amount;
        if proration == Proration::Invoice && dearer && card.is_none() {
            // R24: nothing changes, a pending update survives, no order is left.
            let detail = "Payment failed with reason: missing_payment_method.";
            return Err(Refusal::named(402, "PaymentFailed", detail));
        }
        if let Some(discount) = discount {
            self.attach_discount(row.id, discount);
        }
        self.move_to_product(row.id, product, proration);
        Ok(())
    }
}
