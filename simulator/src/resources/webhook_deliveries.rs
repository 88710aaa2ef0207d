//! An application looks at what was delivered to it and asks for it again.

use serde_json::{Value, json};

use crate::resources::call::{Call, Outcome, Reply, parse_uuid};
use crate::resources::errors::{Refusal, at};
use crate::resources::paging::Page;
use crate::world::clock::text;
use crate::world::model::Moment;
use crate::world::outbox::{Attempt, Delivery, DeliveryState};
use crate::world::store::Store;

/// `GET /v1/webhooks/deliveries`: one item per attempt, newest first.
pub(crate) fn list(store: &mut Store, call: &Call) -> Outcome {
    let page = Page::of(call)?;
    let endpoints = call.ids("endpoint_id")?;
    let succeeded = call.flag("succeeded");
    let (start, end) = (
        moment(call, "start_timestamp"),
        moment(call, "end_timestamp"),
    );
    let kinds = call.all("event_type");
    let mut rows: Vec<(&Delivery, &Attempt)> = store
        .outbox
        .deliveries
        .iter()
        .flat_map(with_attempts)
        .collect();
    rows.retain(|(delivery, attempt)| {
        (endpoints.is_empty() || endpoints.contains(&delivery.endpoint_id))
            && succeeded.is_none_or(|succeeded| succeeded == attempt.succeeded)
            && start.is_none_or(|start| attempt.at >= start)
            && end.is_none_or(|end| attempt.at <= end)
            && (kinds.is_empty() || kinds.contains(&delivery.kind))
    });
    rows.sort_by_key(|(_, attempt)| std::cmp::Reverse(attempt.at));
    page.show(&rows, |(delivery, attempt)| view(delivery, attempt))
}

/// `POST /v1/webhooks/events/{id}/redeliver`
pub(crate) fn redeliver(store: &mut Store, call: &Call) -> Outcome {
    let id = call.param(0);
    let id = parse_uuid(id, at(&["path", "id"])).map_err(|fault| Refusal::schema(vec![fault]))?;
    if store.redeliver(id) {
        Ok(Reply::accepted())
    } else {
        Err(Refusal::not_found("Not found"))
    }
}

fn with_attempts(delivery: &Delivery) -> impl Iterator<Item = (&Delivery, &Attempt)> {
    delivery
        .attempts
        .iter()
        .map(move |attempt| (delivery, attempt))
}

fn moment(call: &Call, key: &str) -> Option<Moment> {
    let parsed = chrono::DateTime::parse_from_rfc3339(call.last(key)?).ok()?;
    Some(parsed.with_timezone(&chrono::Utc))
}

fn view(delivery: &Delivery, attempt: &Attempt) -> Value {
    let last = delivery.attempts.last().and_then(|attempt| attempt.status);
    let succeeded = match delivery.state {
        DeliveryState::Succeeded => Some(true),
        DeliveryState::Failed => Some(false),
        DeliveryState::Pending | DeliveryState::Skipped => None,
    };
    json!({
        "created_at": text(attempt.at), "modified_at": null, "id": attempt.id, "succeeded": attempt.succeeded,
        "http_code": attempt.status, "response": attempt.response,
        "webhook_event": {
            "created_at": text(delivery.created_at), "modified_at": delivery.modified_at.map(text), "id": delivery.id,
            "last_http_code": last, "succeeded": succeeded, "skipped": delivery.state == DeliveryState::Skipped,
            "payload": delivery.body, "type": delivery.kind, "is_archived": false,
        },
    })
}
