//! Subscriptions are read and changed through body variants that cannot be mixed, and each change is refused under a
//! name of its own.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::resources::call::{Call, Outcome, Reply, parse_uuid};
use crate::resources::errors::{Refusal, at};
use crate::resources::paging::{Page, one_of, sort, sortable, sorting};
use crate::resources::subscription_body::check_variants;
use crate::resources::subscription_changes::{refuse_canceled, refuse_locked};
use crate::world::clock::text;
use crate::world::lifecycle::Start;
use crate::world::model::Subscription;
use crate::world::store::Store;

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
    let sortings = sorting(call, &PROPERTIES)?;
    let statuses = call.all("status");
    if statuses.iter().any(|status| !STATUSES.contains(status)) {
        return Err(bad_statuses(&statuses));
    }
    let customers = store.wanted_customers(call)?;
    let products = call.ids("product_id")?;
    let active = call.flag("active");
    let mut rows: Vec<&Subscription> = store.subscriptions.iter().rev().collect();
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
    sort(&mut rows, &sortings, |row, property| match property {
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
        return Err(Refusal::about("product_id", message, json!(product)));
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
        return Err(Refusal::about(
            key,
            "Customer does not exist.",
            object.get(key).cloned().unwrap_or_default(),
        ));
    };
    let id = store.start_subscription(customer, product, None, Start::Active);
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
    refuse_locked(&row)?;
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

/// One entry for the list as a single value, and one per wrong value of the list.
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

impl Store {
    pub(crate) fn show_subscription(&self, id: Uuid, reply: fn(Value) -> Reply) -> Outcome {
        let row = self
            .subscriptions
            .get(id)
            .ok_or_else(|| Refusal::not_found("Not found"))?;
        Ok(reply(self.subscription_view(row)))
    }
}
