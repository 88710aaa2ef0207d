//! Why: a plan is bought through a checkout; a paid subscription cannot be upgraded through one.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::resources::call::{Call, Outcome, Reply, parse_uuid};
use crate::resources::errors::{Fault, Refusal, at};
use crate::world::checkouts::{Wanted, view};
use crate::world::store::Store;

/// `POST /v1/checkouts/`
pub(crate) fn create(store: &mut Store, call: &Call) -> Outcome {
    let wanted = Wanted::parse(store, call)?;
    let object = call.object()?;
    let text = |key: &str| object.get(key).and_then(Value::as_str).map(str::to_owned);
    let (success_url, return_url) = (text("success_url"), text("return_url"));
    let id = store.open_checkout(wanted, success_url, return_url);
    let row = store.checkouts.get(id).ok_or_else(Refusal::internal)?;
    Ok(Reply::created(view(store, row, &call.base_url)))
}

impl Wanted {
    fn parse(store: &Store, call: &Call) -> Result<Self, Refusal> {
        let object = call.object()?;
        let Some(wanted) = object.get("products").and_then(Value::as_array) else {
            let fault = Fault::missing(at(&["body", "products"]), call.body.clone());
            return Err(Refusal::schema(vec![fault]));
        };
        let products = wanted.iter().map(|value| store.known_product(value));
        let products = products.collect::<Result<Vec<Uuid>, _>>()?;
        let text = |key: &str| object.get(key).and_then(Value::as_str);
        let id = |key: &str| {
            let parsed = text(key).map(|value| parse_uuid(value, at(&["body", key])));
            parsed
                .transpose()
                .map_err(|fault| Refusal::schema(vec![fault]))
        };
        let subscription_id = id("subscription_id")?;
        let upgraded = subscription_id.and_then(|id| store.subscriptions.get(id));
        if let Some(row) = upgraded.filter(|row| row.amount > 0) {
            let message = "Only free subscriptions can be upgraded.";
            return Err(Refusal::about("subscription_id", message, json!(row.id)));
        }
        let external_customer_id = text("external_customer_id").map(str::to_owned);
        let external = external_customer_id.as_deref();
        let by_external = external.and_then(|id| store.customer_by_external_id(id));
        let customer_id = by_external.map(|row| row.id).or(id("customer_id")?);
        let discount_id = id("discount_id")?;
        Ok(Self {
            products,
            customer_id,
            external_customer_id,
            discount_id,
            subscription_id,
        })
    }
}
