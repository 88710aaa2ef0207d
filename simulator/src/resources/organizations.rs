//! Why: a token is checked by asking for the organization it belongs to.

use serde_json::{Value, json};

use crate::resources::call::{Call, Outcome, Reply};
use crate::resources::errors::Refusal;
use crate::resources::paging::Page;
use crate::world::store::Store;

/// `GET /v1/organizations/`
pub(crate) fn list(store: &mut Store, call: &Call) -> Outcome {
    Page::of(call)?.show(&[()], |()| view(store))
}

/// `GET /v1/organizations/{id}`
pub(crate) fn get(store: &mut Store, call: &Call) -> Outcome {
    if call.id(0)? == store.organization_id {
        return Ok(Reply::ok(view(store)));
    }
    Err(Refusal::not_found("Not found"))
}

fn view(store: &Store) -> Value {
    json!({
        "id": store.organization_id, "created_at": "2026-01-01T00:00:00.000000Z", "modified_at": null,
        "name": "Self", "slug": "self", "status": "active", "email": null, "avatar_url": null,
    })
}
