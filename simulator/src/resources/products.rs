//! Plans and benefits are the seller's catalogue; their metadata decides what a grant means.

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::resources::call::{Call, Outcome, Reply, parse_uuid};
use crate::resources::errors::{Refusal, at};
use crate::resources::paging::{Page, sort, sortable, sorting};
use crate::resources::validation;
use crate::world::clock::text;
use crate::world::model::{Metadata, Product};
use crate::world::store::Store;

/// `GET /v1/products/`
pub(crate) fn list(store: &mut Store, call: &Call) -> Outcome {
    let page = Page::of(call)?;
    let sortings = sorting(
        call,
        &["created_at", "name", "price_amount_type", "price_amount"],
    )?;
    let organizations = call.ids("organization_id")?;
    let ids = call.ids("id")?;
    let archived = call.flag("is_archived");
    let mut rows: Vec<&Product> = store.products.iter().rev().collect();
    rows.retain(|_| organizations.is_empty() || organizations.contains(&store.organization_id));
    rows.retain(|row| ids.is_empty() || ids.contains(&row.id));
    rows.retain(|row| archived.is_none_or(|archived| archived == row.archived));
    rows.retain(|_| call.flag("is_recurring") != Some(false));
    rows.retain(|_| {
        call.last("visibility")
            .is_none_or(|visibility| visibility == "public")
    });
    sort(&mut rows, &sortings, |row, property| match property {
        "name" => row.name.clone(),
        "price_amount" => sortable(row.price_amount),
        "price_amount_type" => String::new(),
        _ => text(row.created_at),
    });
    page.show(&rows, |row| store.product_view(row))
}

/// `GET /v1/products/{id}`
pub(crate) fn get(store: &mut Store, call: &Call) -> Outcome {
    let row = store
        .products
        .get(call.id(0)?)
        .ok_or_else(|| Refusal::not_found("Not found"))?;
    Ok(Reply::ok(store.product_view(row)))
}

/// `POST /v1/products/`
pub(crate) fn create(store: &mut Store, call: &Call) -> Outcome {
    let object = call.object()?;
    refuse_organization(object)?;
    let metadata = read_metadata(object)?;
    let text = |key: &str| object.get(key).and_then(Value::as_str).map(str::to_owned);
    let price = call
        .body
        .pointer("/prices/0/price_amount")
        .and_then(Value::as_i64)
        .unwrap_or(0);
    let name = text("name").unwrap_or_default();
    let interval = text("recurring_interval").unwrap_or_else(|| "month".into());
    let id = store.insert_product(
        name,
        text("description"),
        interval,
        price,
        metadata,
        Vec::new(),
    );
    store.show_product(id, Reply::created)
}

/// `PATCH /v1/products/{id}`
pub(crate) fn patch(store: &mut Store, call: &Call) -> Outcome {
    let id = call.id(0)?;
    let object = call.object()?;
    let metadata = read_metadata(object)?;
    let now = store.now();
    let row = store
        .products
        .get_mut(id)
        .ok_or_else(|| Refusal::not_found("Not found"))?;
    row.modified_at = Some(now);
    if let Some(archived) = object.get("is_archived").and_then(Value::as_bool) {
        row.archived = archived;
    }
    if let Some(name) = object.get("name").and_then(Value::as_str) {
        name.clone_into(&mut row.name);
    }
    if object.contains_key("metadata") {
        row.metadata = metadata;
    }
    store.announce_product(id, "product.updated");
    store.show_product(id, Reply::ok)
}

/// `POST /v1/products/{id}/benefits`: holders of the product gain and lose what changed.
pub(crate) fn set_benefits(store: &mut Store, call: &Call) -> Outcome {
    let id = call.id(0)?;
    let wanted = call
        .body
        .get("benefits")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let parse = |value: &Value| parse_uuid(value.as_str().unwrap_or(""), at(&["body", "benefits"]));
    let ids: Result<Vec<Uuid>, _> = wanted.iter().map(parse).collect();
    let ids = ids.map_err(|fault| Refusal::schema(vec![fault]))?;
    if store.products.get(id).is_none() {
        return Err(Refusal::not_found("Not found"));
    }
    store.put_benefits(id, ids);
    store.show_product(id, Reply::ok)
}

pub(crate) fn refuse_organization(object: &Map<String, Value>) -> Result<(), Refusal> {
    match object
        .get("organization_id")
        .filter(|value| !value.is_null())
    {
        Some(input) => Err(Refusal::organization_token(
            at(&["body", "organization_id"]),
            input.clone(),
        )),
        None => Ok(()),
    }
}

pub(crate) fn read_metadata(object: &Map<String, Value>) -> Result<Metadata, Refusal> {
    let mut faults = Vec::new();
    let metadata = object
        .get("metadata")
        .map(|value| validation::metadata(value, &at(&["body", "metadata"]), &mut faults));
    if faults.is_empty() {
        Ok(metadata.unwrap_or_default())
    } else {
        Err(Refusal::schema(faults))
    }
}

impl Store {
    fn show_product(&self, id: Uuid, reply: fn(Value) -> Reply) -> Outcome {
        let row = self.products.get(id).ok_or_else(Refusal::internal)?;
        Ok(reply(self.product_view(row)))
    }
}
