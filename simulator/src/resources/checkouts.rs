//! A plan is bought through a checkout; a paid subscription cannot be upgraded through one.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::resources::call::{Call, Outcome, Reply, parse_uuid};
use crate::resources::errors::{Fault, Refusal, at};
use crate::world::checkouts::{Wanted, view};
use crate::world::store::Store;

const NOT_REDEEMABLE: &str =
    "Discount does not exist, is not applicable to this product or is not redeemable.";

/// `POST /v1/checkouts/`
pub(crate) fn create(store: &mut Store, call: &Call) -> Outcome {
    let wanted = Wanted::parse(store, call)?;
    let id = store.open_checkout(wanted);
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
        let text = |key: &str| object.get(key).and_then(Value::as_str).map(str::to_owned);
        let subscription_id = id_of(object, "subscription_id")?;
        let upgraded = subscription_id.and_then(|id| store.subscriptions.get(id));
        if let Some(row) = upgraded.filter(|row| row.amount > 0) {
            let message = "Only free subscriptions can be upgraded.";
            return Err(Refusal::about("subscription_id", message, json!(row.id)));
        }
        let external_customer_id = text("external_customer_id");
        let external = external_customer_id.as_deref();
        let by_external = external.and_then(|id| store.customer_by_external_id(id));
        let customer_id = match by_external {
            Some(row) => Some(row.id),
            None => id_of(object, "customer_id")?,
        };
        let discount_id = id_of(object, "discount_id")?;
        let usable = |id| {
            products
                .iter()
                .all(|product| store.can_redeem(id, *product))
        };
        if let Some(id) = discount_id.filter(|id| !usable(*id)) {
            return Err(Refusal::about("discount_id", NOT_REDEEMABLE, json!(id)));
        }
        Ok(Self {
            products,
            customer_id,
            external_customer_id,
            discount_id,
            subscription_id,
            success_url: url_of(object, "success_url")?,
            return_url: url_of(object, "return_url")?,
            embed_origin: text("embed_origin"),
            customer_ip_address: address_of(object)?,
        })
    }
}

fn id_of(object: &Map<String, Value>, key: &str) -> Result<Option<Uuid>, Refusal> {
    let text = object.get(key).and_then(Value::as_str);
    let parsed = text.map(|value| parse_uuid(value, at(&["body", key])));
    parsed
        .transpose()
        .map_err(|fault| Refusal::schema(vec![fault]))
}

/// An address to return to must be a whole one.
fn url_of(object: &Map<String, Value>, key: &str) -> Result<Option<String>, Refusal> {
    let Some(text) = object.get(key).and_then(Value::as_str) else {
        return Ok(None);
    };
    // The place for the checkout's id is no part of the address yet.
    if reqwest::Url::parse(&text.replace("{CHECKOUT_ID}", "id")).is_ok() {
        return Ok(Some(text.to_owned()));
    }
    let message = "Input should be a valid URL, relative URL without a base";
    let fault = Fault::new("url_parsing", at(&["body", key]), message, json!(text));
    let reason = json!({"error": "relative URL without a base"});
    Err(Refusal::schema(vec![fault.context(reason)]))
}

fn address_of(object: &Map<String, Value>) -> Result<Option<String>, Refusal> {
    let key = "customer_ip_address";
    let Some(text) = object.get(key).and_then(Value::as_str) else {
        return Ok(None);
    };
    if text.parse::<std::net::IpAddr>().is_ok() {
        return Ok(Some(text.to_owned()));
    }
    let message = "value is not a valid IPv4 or IPv6 address";
    let fault = Fault::new("ip_any_address", at(&["body", key]), message, json!(text));
    Err(Refusal::schema(vec![fault]))
}
