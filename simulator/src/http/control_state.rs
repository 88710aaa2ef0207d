//! A test in another process looks into the world over HTTP, in the API's own shapes where there are such.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};

use crate::http::respond::plain;
use crate::http::shared::Shared;
use crate::records::{CustomerRecord, DeliveryRecord};
use crate::world::invoices::InvoiceFault;
use crate::world::model::{Customer, Endpoint};
use crate::world::store::Store;
use crate::world::views::member_view;

/// Everything Polar holds, in the API's own shapes where there are such.
pub(crate) fn state(shared: &Shared) -> Value {
    let store = &*shared.lock();
    let customers: Vec<Value> = store
        .customers
        .iter()
        .map(|row| customer_state(store, row))
        .collect();
    let deliveries: Vec<DeliveryRecord> = store
        .outbox
        .deliveries
        .iter()
        .map(DeliveryRecord::from)
        .collect();
    let products: Vec<Value> = store
        .products
        .iter()
        .map(|row| store.product_view(row))
        .collect();
    let endpoints: Vec<Value> = store
        .outbox
        .endpoints
        .iter()
        .filter(|row| !row.deleted)
        .map(endpoint)
        .collect();
    json!({
        "now": store.now(), "organization_id": store.organization_id, "customers": customers, "products": products,
        "events": store.event_records(), "deliveries": deliveries, "endpoints": endpoints,
        "deliveries_finished": store.deliveries_finished(), "faults": store.outbox.faults.to_string(),
        "failing": shared.outages.failing(), "armed": shared.interventions.waiting(),
    })
}

fn customer_state(store: &Store, row: &Customer) -> Value {
    let members: Vec<Value> = store.living_members(row.id).map(member_view).collect();
    let grants: Vec<Value> = store
        .grants_of_customer(row.id)
        .map(|grant| store.grant_view(grant))
        .collect();
    let subscriptions = store
        .subscriptions
        .iter()
        .filter(|subscription| subscription.customer_id == row.id);
    let subscriptions: Vec<Value> = subscriptions
        .map(|subscription| store.subscription_view(subscription))
        .collect();
    let mut view = json!(CustomerRecord::from(row));
    view["members"] = members.into();
    view["grants"] = grants.into();
    view["subscriptions"] = subscriptions.into();
    view["orders"] = store.orders_of(row.id).into();
    view
}

fn endpoint(row: &Endpoint) -> Value {
    json!({"id": row.id, "url": row.url, "enabled": row.enabled, "events": row.events})
}

pub(crate) fn invoice(shared: &Shared, file: &str, query: &str) -> Response {
    let number = file.strip_suffix(".pdf").unwrap_or(file);
    let expires = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("expires=")?.parse().ok());
    let store = shared.lock();
    if store.invoice_fault == Some(InvoiceFault::Unavailable) {
        return plain(StatusCode::SERVICE_UNAVAILABLE, "slow down");
    }
    let document = expires.and_then(|expires| store.invoice_document(number, expires));
    drop(store);
    let Some(document) = document else {
        return plain(StatusCode::FORBIDDEN, "the link has expired or never was");
    };
    let mut response = Response::new(Body::from(document));
    response
        .headers_mut()
        .insert("content-type", HeaderValue::from_static("application/pdf"));
    response
}
