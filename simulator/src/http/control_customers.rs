//! Whoever steers the simulator from a shell knows customers by the application's id, and not the ids of what they hold.

use serde_json::{Value, json};

use crate::http::control_answers::{Refused, field, missing, refused, wrong};
use crate::http::shared::Shared;
use crate::world::catalogue::Product;
use crate::world::steps::{SubscriptionStep, WorldError};

/// Takes a step with the customer's newest subscription that has not ended.
pub(crate) fn step(shared: &Shared, external_id: &str, word: &str) -> Result<Value, Refused> {
    let step =
        SubscriptionStep::named(word).ok_or_else(|| missing("no such step of a subscription"))?;
    let mut store = shared.lock();
    let taken = store
        .running_subscription(external_id)
        .and_then(|id| store.take_step(id, step).map(|()| id));
    subscription(taken)
}

/// Another plan, at once and paid.
pub(crate) fn change_plan(
    shared: &Shared,
    external_id: &str,
    body: &Value,
) -> Result<Value, Refused> {
    let product = Product::named(field(body, "product")?);
    let product = product.ok_or_else(|| wrong("`product` is pro, growth, scale or free"))?;
    let mut store = shared.lock();
    let changed = store
        .running_subscription(external_id)
        .and_then(|id| store.change_plan(external_id, product, true).map(|()| id));
    subscription(changed)
}

/// Edits the metadata of the benefit of one type that the customer holds; fields that are not named stay.
pub(crate) fn edit_benefit(
    shared: &Shared,
    external_id: &str,
    body: &Value,
) -> Result<Value, Refused> {
    let kind = field(body, "type")?;
    let fields = body.get("metadata").and_then(Value::as_object);
    let fields = fields.ok_or_else(|| wrong("`metadata` is an object"))?;
    let mut store = shared.lock();
    let customer = store
        .customer_by_external_id(external_id)
        .map(|row| row.id)
        .ok_or_else(|| refused(&WorldError::UnknownCustomer(external_id.to_owned())))?;
    let held = store
        .grants_of_customer(customer)
        .filter(|grant| grant.granted_at.is_some() && grant.revoked_at.is_none())
        .filter_map(|grant| store.benefits.get(grant.benefit_id))
        .find(|benefit| benefit.metadata.get("type").and_then(Value::as_str) == Some(kind))
        .map(|benefit| (benefit.id, benefit.metadata.clone()));
    let (id, mut metadata) =
        held.ok_or_else(|| missing(&format!("the customer holds no benefit of type `{kind}`")))?;
    metadata.extend(fields.clone());
    store.edit_benefit(id, Some(metadata), None);
    Ok(json!({"benefit_id": id}))
}

fn subscription(taken: Result<uuid::Uuid, WorldError>) -> Result<Value, Refused> {
    taken
        .map(|id| json!({"subscription_id": id}))
        .map_err(|error| refused(&error))
}
