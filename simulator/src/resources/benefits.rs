//! A benefit's metadata says what a grant of it means; an edit is announced by itself only.

use crate::resources::call::{Call, Outcome, Reply};
use crate::resources::errors::Refusal;
use crate::resources::paging::{Page, sort, sorting};
use crate::resources::products::{read_metadata, refuse_organization};
use crate::world::clock::text;
use crate::world::model::Benefit;
use crate::world::store::Store;
use serde_json::{Value, json};

/// `GET /v1/benefits/`
pub(crate) fn list_benefits(store: &mut Store, call: &Call) -> Outcome {
    let page = Page::of(call)?;
    let sortings = sorting(call, &["created_at", "description", "type", "user_order"])?;
    let mut rows: Vec<&Benefit> = store.benefits.iter().rev().collect();
    sort(&mut rows, &sortings, |row, property| match property {
        "description" => row.description.clone(),
        "type" => String::new(),
        _ => text(row.created_at),
    });
    page.show(&rows, |row| store.benefit_view(row))
}

/// `GET /v1/benefits/{id}`
pub(crate) fn get_benefit(store: &mut Store, call: &Call) -> Outcome {
    let row = store
        .benefits
        .get(call.id(0)?)
        .ok_or_else(|| Refusal::not_found("Not found"))?;
    Ok(Reply::ok(store.benefit_view(row)))
}

/// `POST /v1/benefits/`
pub(crate) fn create_benefit(store: &mut Store, call: &Call) -> Outcome {
    let object = call.object()?;
    refuse_organization(object)?;
    let metadata = read_metadata(object)?;
    let description = object
        .get("description")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let properties = object
        .get("properties")
        .cloned()
        .unwrap_or_else(|| json!({"note": null}));
    let id = store.insert_benefit(description, metadata, properties);
    let row = store.benefits.get(id).ok_or_else(Refusal::internal)?;
    Ok(Reply::created(store.benefit_view(row)))
}

/// `PATCH /v1/benefits/{id}`: announced as `benefit.updated` and nothing else.
pub(crate) fn patch_benefit(store: &mut Store, call: &Call) -> Outcome {
    let id = call.id(0)?;
    let object = call.object()?;
    let metadata = read_metadata(object)?;
    if store.benefits.get(id).is_none() {
        return Err(Refusal::not_found("Not found"));
    }
    let description = object
        .get("description")
        .and_then(Value::as_str)
        .map(str::to_owned);
    store.edit_benefit(
        id,
        object.contains_key("metadata").then_some(metadata),
        description,
    );
    let row = store.benefits.get(id).ok_or_else(Refusal::internal)?;
    Ok(Reply::ok(store.benefit_view(row)))
}
