//! Endpoints are made, changed, rotated and disabled; an application watches its own.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::resources::call::{Call, Outcome, Reply};
use crate::resources::errors::{Fault, Refusal, at};
use crate::resources::paging::Page;
use crate::world::model::Endpoint;
use crate::world::store::Store;

/// Every type Polar sends.
pub(crate) const EVENT_TYPES: [&str; 41] = [
    "benefit.created",
    "benefit.updated",
    "benefit_grant.created",
    "benefit_grant.cycled",
    "benefit_grant.updated",
    "benefit_grant.revoked",
    "checkout.created",
    "checkout.expired",
    "checkout.updated",
    "customer.created",
    "customer.deleted",
    "customer.state_changed",
    "customer.updated",
    "customer_seat.assigned",
    "customer_seat.claimed",
    "customer_seat.revoked",
    "discount.created",
    "discount.deleted",
    "discount.updated",
    "member.created",
    "member.deleted",
    "member.updated",
    "order.created",
    "order.paid",
    "order.refunded",
    "order.updated",
    "organization.updated",
    "product.created",
    "product.updated",
    "refund.created",
    "refund.updated",
    "subscription.active",
    "subscription.canceled",
    "subscription.created",
    "subscription.cycled",
    "subscription.past_due",
    "subscription.paused",
    "subscription.resumed",
    "subscription.revoked",
    "subscription.uncanceled",
    "subscription.updated",
];
const SHORTEST_SECRET: usize = 32;

/// `GET /v1/webhooks/endpoints`
pub(crate) fn list(store: &mut Store, call: &Call) -> Outcome {
    let page = Page::of(call)?;
    let rows: Vec<&Endpoint> = store
        .outbox
        .endpoints
        .iter()
        .rev()
        .filter(|row| !row.deleted)
        .collect();
    page.show(&rows, |row| store.endpoint_view(row))
}

/// `GET /v1/webhooks/endpoints/{id}`
pub(crate) fn get(store: &mut Store, call: &Call) -> Outcome {
    let row = store.endpoint(call.id(0)?)?;
    Ok(Reply::ok(store.endpoint_view(row)))
}

/// `POST /v1/webhooks/endpoints`
pub(crate) fn create(store: &mut Store, call: &Call) -> Outcome {
    let object = call.object()?;
    let mut faults: Vec<Fault> = check(object).into_iter().collect();
    for key in ["url", "format", "events"]
        .into_iter()
        .filter(|key| !object.contains_key(*key))
    {
        faults.push(Fault::missing(at(&["body", key]), call.body.clone()));
    }
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
    let url = object
        .get("url")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let secret = object
        .get("secret")
        .and_then(Value::as_str)
        .map(str::to_owned);
    let secret = secret.unwrap_or_else(|| store.fresh_secret());
    let id = store.insert_endpoint(url, secret, events(object).unwrap_or_default());
    let row = store.endpoint(id)?;
    Ok(Reply::created(store.endpoint_view(row)))
}

/// `PATCH /v1/webhooks/endpoints/{id}`
pub(crate) fn patch(store: &mut Store, call: &Call) -> Outcome {
    let id = call.id(0)?;
    store.endpoint(id)?;
    let object = call.object()?;
    if let Some(fault) = check(object) {
        return Err(Refusal::schema(vec![fault]));
    }
    let now = store.now();
    let row = store
        .outbox
        .endpoints
        .get_mut(id)
        .ok_or_else(Refusal::internal)?;
    row.modified_at = Some(now);
    if let Some(url) = object.get("url").and_then(Value::as_str) {
        url.clone_into(&mut row.url);
    }
    row.events = events(object).unwrap_or_else(|| std::mem::take(&mut row.events));
    if let Some(enabled) = object.get("enabled").and_then(Value::as_bool) {
        row.enabled = enabled;
        if !enabled {
            store.skip_pending(id);
        }
    }
    let row = store.endpoint(id)?;
    Ok(Reply::ok(store.endpoint_view(row)))
}

/// `PATCH /v1/webhooks/endpoints/{id}/secret`: replaces it at once; even retries are signed with the new one.
pub(crate) fn reset_secret(store: &mut Store, call: &Call) -> Outcome {
    let id = call.id(0)?;
    store.endpoint(id)?;
    let (secret, now) = (store.fresh_secret(), store.now());
    let row = store
        .outbox
        .endpoints
        .get_mut(id)
        .ok_or_else(Refusal::internal)?;
    row.secret = secret;
    row.modified_at = Some(now);
    let row = store.endpoint(id)?;
    Ok(Reply::ok(store.endpoint_view(row)))
}

/// `DELETE /v1/webhooks/endpoints/{id}`
pub(crate) fn delete(store: &mut Store, call: &Call) -> Outcome {
    let id = call.id(0)?;
    store.endpoint(id)?;
    if let Some(row) = store.outbox.endpoints.get_mut(id) {
        row.deleted = true;
        row.enabled = false;
    }
    store.skip_pending(id);
    Ok(Reply::gone())
}

fn events(object: &Map<String, Value>) -> Option<Vec<String>> {
    let wanted = object.get("events")?.as_array()?;
    Some(
        wanted
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
    )
}

fn check(object: &Map<String, Value>) -> Option<Fault> {
    if let Some(url) = object.get("url").and_then(Value::as_str) {
        let loc = at(&["body", "url"]);
        let Some(rest) = url.strip_prefix("https://") else {
            let fault = Fault::new(
                "url_scheme",
                loc,
                "URL scheme should be 'https'",
                url.into(),
            );
            return Some(fault.context(json!({"expected_schemes": "'https'"})));
        };
        let host = rest.split(['/', ':', '?']).next().unwrap_or_default();
        if private(host) {
            let message = "Webhook URLs cannot point to localhost or private IP addresses.";
            return Some(Fault::validator(loc, message, url.into()));
        }
    }
    let secret = object.get("secret").and_then(Value::as_str)?;
    (secret.chars().count() < SHORTEST_SECRET).then(|| {
        let message = format!("String should have at least {SHORTEST_SECRET} characters");
        let fault = Fault::new(
            "string_too_short",
            at(&["body", "secret"]),
            message,
            secret.into(),
        );
        fault.context(json!({"min_length": SHORTEST_SECRET}))
    })
}

fn private(host: &str) -> bool {
    let address: Option<std::net::Ipv4Addr> = host.parse().ok();
    host == "localhost"
        || host.ends_with(".localhost")
        || address.is_some_and(|ip| {
            ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_unspecified()
        })
}

impl Store {
    fn endpoint(&self, id: Uuid) -> Result<&Endpoint, Refusal> {
        let row = self.outbox.endpoints.get(id).filter(|row| !row.deleted);
        row.ok_or_else(|| Refusal::not_found("Not found"))
    }

    /// 49 characters, as Polar's generator makes them.
    fn fresh_secret(&mut self) -> String {
        format!("whsec_{}", self.fresh_text(43))
    }

    fn insert_endpoint(&mut self, url: String, secret: String, events: Vec<String>) -> Uuid {
        let (id, created_at) = (self.fresh_id(), self.now());
        let row = Endpoint {
            id,
            created_at,
            modified_at: None,
            url,
            secret,
            events,
            enabled: true,
            deleted: false,
        };
        self.outbox.endpoints.insert(row)
    }

    /// Registers `url`, on this machine or not, for every type; `None` disables the endpoint.
    pub(crate) fn register_endpoint(&mut self, url: Option<String>, secret: &str) {
        let now = self.now();
        let first = self
            .outbox
            .endpoints
            .iter()
            .find(|row| !row.deleted)
            .map(|row| row.id);
        match (url, first) {
            (Some(url), Some(id)) => {
                if let Some(row) = self.outbox.endpoints.get_mut(id) {
                    row.url = url;
                    secret.clone_into(&mut row.secret);
                    row.enabled = true;
                    row.modified_at = Some(now);
                }
            }
            (Some(url), None) => {
                let events = EVENT_TYPES.iter().map(|kind| (*kind).to_owned()).collect();
                self.insert_endpoint(url, secret.to_owned(), events);
            }
            (None, Some(id)) => {
                if let Some(row) = self.outbox.endpoints.get_mut(id) {
                    row.enabled = false;
                }
                self.skip_pending(id);
            }
            (None, None) => {}
        }
    }
}
