//! The startup program hands out discounts that can be redeemed once; clearing one does not give it back.

use serde_json::{Map, Value};

use crate::resources::call::{Call, Outcome, Reply};
use crate::resources::errors::{Fault, Refusal, at};
use crate::world::model::Discount;
use crate::world::store::Store;

const KEPT: [&str; 12] = [
    "name",
    "type",
    "basis_points",
    "amount",
    "currency",
    "duration",
    "duration_in_months",
    "code",
    "starts_at",
    "ends_at",
    "max_redemptions",
    "max_redemptions_per_customer",
];

/// `POST /v1/discounts/`
pub(crate) fn create(store: &mut Store, call: &Call) -> Outcome {
    let object = call.object()?;
    let absent = ["name", "duration", "type"]
        .into_iter()
        .filter(|key| !object.contains_key(*key));
    let faults: Vec<Fault> = absent
        .map(|key| Fault::missing(at(&["body", key]), call.body.clone()))
        .collect();
    if !faults.is_empty() {
        return Err(Refusal::schema(faults));
    }
    if let Some(input) = object
        .get("organization_id")
        .filter(|value| !value.is_null())
    {
        return Err(Refusal::organization_token(
            at(&["body", "organization_id"]),
            input.clone(),
        ));
    }
    let kept = object
        .iter()
        .filter(|(key, _)| KEPT.contains(&key.as_str()) || *key == "metadata");
    let request: Map<String, Value> = kept
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let products = object.get("products").and_then(Value::as_array);
    let products = products.into_iter().flatten();
    let products = products.map(|value| store.known_product(value));
    let products = products.collect::<Result<_, _>>()?;
    let (id, created_at) = (store.fresh_id(), store.now());
    let max_redemptions = object.get("max_redemptions").and_then(Value::as_i64);
    store.discounts.insert(Discount {
        id,
        created_at,
        request,
        products,
        max_redemptions,
        redemptions: 0,
        deleted: false,
    });
    let row = store.discounts.get(id).ok_or_else(Refusal::internal)?;
    Ok(Reply::created(store.discount_view(row)))
}

/// `GET /v1/discounts/{id}`
pub(crate) fn get(store: &mut Store, call: &Call) -> Outcome {
    let row = store.discounts.get(call.id(0)?).filter(|row| !row.deleted);
    let row = row.ok_or_else(|| Refusal::not_found("Not found"))?;
    Ok(Reply::ok(store.discount_view(row)))
}

/// `DELETE /v1/discounts/{id}`: redemptions do not hinder it.
pub(crate) fn delete(store: &mut Store, call: &Call) -> Outcome {
    let row = store
        .discounts
        .get_mut(call.id(0)?)
        .filter(|row| !row.deleted);
    let row = row.ok_or_else(|| Refusal::not_found("Not found"))?;
    row.deleted = true;
    Ok(Reply::gone())
}
