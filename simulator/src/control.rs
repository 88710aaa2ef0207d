//! Why: a simulator in a process of its own is steered and looked into over HTTP, under `/simulator/` on its own port,
//! without a token. The routes are listed in the crate's documentation.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use chrono::TimeDelta;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::catalogue::Product;
use crate::gate::RequestMatch;
use crate::interventions::Intervention;
use crate::lifecycle::Start;
use crate::outages::Gateway;
use crate::records::{CustomerRecord, DeliveryRecord};
use crate::shared::Shared;
use crate::store::Store;
use crate::story::{Act, Buyer, StoryError};

/// Why the control surface refuses: a status and a sentence.
type Refused = (StatusCode, String);

/// Answers a request of the control surface.
pub(crate) async fn handle(shared: &Arc<Shared>, parts: &Parts, body: &Bytes) -> Response {
    let path: Vec<&str> = parts
        .uri
        .path()
        .trim_matches('/')
        .split('/')
        .skip(1)
        .collect();
    if let ["invoices", file] = path.as_slice() {
        return invoice(shared, file, parts.uri.query().unwrap_or_default());
    }
    let outcome = match serde_json::from_slice(body) {
        Ok(body) => act(shared, parts.method.as_str(), &path, &body).await,
        Err(_) if body.is_empty() => act(shared, parts.method.as_str(), &path, &Value::Null).await,
        Err(error) => Err((
            StatusCode::BAD_REQUEST,
            format!("the body is no JSON: {error}"),
        )),
    };
    let (status, value) = match outcome {
        Ok(value) => (StatusCode::OK, value),
        Err((status, detail)) => (status, json!({"error": detail})),
    };
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert("content-type", HeaderValue::from_static("application/json"));
    response
}

/// Does what a request of the control surface asks for.
pub(crate) async fn act(
    shared: &Arc<Shared>,
    method: &str,
    path: &[&str],
    body: &Value,
) -> Result<Value, Refused> {
    match (method, path) {
        ("GET", ["state"]) => Ok(state(shared)),
        ("GET", ["requests"]) => Ok(json!(shared.lock().requests)),
        ("POST", ["purchase"]) => purchase(shared, body),
        ("POST", ["advance"]) => advance(shared, body).await,
        ("POST", ["faults"]) => change_faults(shared, body),
        ("POST", ["fail"]) => fail(shared, body),
        ("POST", ["gateway"]) => set_gateway(shared, body),
        ("POST", ["scopes"]) => withdraw_scopes(shared, body),
        ("POST", ["arm"]) => arm(shared, body),
        ("POST", ["webhook"]) => register(shared, body),
        ("POST", ["subscriptions", id, word]) => {
            let act = Act::named(word).ok_or_else(|| missing("no such act of a subscription"))?;
            shared
                .lock()
                .story_act(parse(id)?, act)
                .map_err(|error| refused(&error))?;
            Ok(json!({"subscription_id": id}))
        }
        ("POST" | "PATCH", ["benefits", id]) => edit_benefit(shared, id, body),
        ("POST", ["deliver"]) => {
            let id = parse(field(body, "id")?)?;
            let known = shared.lock().redeliver(id);
            if known {
                Ok(json!({"id": id}))
            } else {
                Err(missing("no such delivery"))
            }
        }
        _ => Err(missing(
            "no such route; the crate's documentation lists them",
        )),
    }
}

fn purchase(shared: &Shared, body: &Value) -> Result<Value, Refused> {
    let product = Product::named(field(body, "product")?);
    let product = product.ok_or_else(|| wrong("`product` is pro, growth, scale or free"))?;
    let buyer = match body.get("customer_id").and_then(Value::as_str) {
        Some(id) => Buyer::Id(parse(id)?),
        None => Buyer::External(field(body, "external_customer_id")?.to_owned()),
    };
    let start = match body.get("start").and_then(Value::as_str) {
        None | Some("active") => Start::Active,
        Some("trial") => Start::Trial(14),
        Some("incomplete") => Start::Incomplete,
        Some(_) => return Err(wrong("`start` is active, trial or incomplete")),
    };
    let bought = shared.lock().story_purchase(&buyer, product, start);
    bought
        .map(|id| json!({"subscription_id": id}))
        .map_err(|error| refused(&error))
}

async fn advance(shared: &Arc<Shared>, body: &Value) -> Result<Value, Refused> {
    let number = |key: &str| body.get(key).and_then(Value::as_i64).unwrap_or(0);
    let parts = TimeDelta::try_days(number("days")).zip(TimeDelta::try_seconds(number("seconds")));
    let by = parts.and_then(|(days, rest)| (days + rest).to_std().ok());
    shared
        .advance(by.ok_or_else(|| wrong("`days` and `seconds` go forward"))?)
        .await;
    Ok(json!({"now": shared.lock().now()}))
}

fn change_faults(shared: &Shared, body: &Value) -> Result<Value, Refused> {
    let parsed = field(body, "spec")?.parse();
    let faults: crate::Faults =
        parsed.map_err(|error: crate::FaultsError| wrong(&error.to_string()))?;
    let text = faults.to_string();
    shared.lock().outbox.faults = faults;
    Ok(json!({"faults": text}))
}

fn fail(shared: &Shared, body: &Value) -> Result<Value, Refused> {
    match body.get("customer") {
        Some(Value::Null) => shared.outages.fail_nobody(),
        _ => shared.outages.fail(field(body, "customer")?),
    }
    Ok(json!({"failing": shared.outages.failing()}))
}

fn set_gateway(shared: &Shared, body: &Value) -> Result<Value, Refused> {
    let status = body.get("status").and_then(Value::as_u64);
    let status = status.map(|status| u16::try_from(status).ok().filter(|code| *code >= 200));
    let gateway = match status {
        Some(None) => return Err(wrong("`status` is an HTTP status")),
        None => None,
        Some(Some(status)) => Some(Gateway {
            status,
            html: body.get("html").and_then(Value::as_bool).unwrap_or(false),
            path: body
                .get("path")
                .and_then(Value::as_str)
                .unwrap_or("")
                .to_owned(),
        }),
    };
    shared.outages.set_gateway(gateway);
    Ok(json!({"status": body.get("status")}))
}

fn withdraw_scopes(shared: &Shared, body: &Value) -> Result<Value, Refused> {
    let without = body.get("without").and_then(Value::as_array);
    let without = without.ok_or_else(|| wrong("`without` is a list of scopes"))?;
    let scopes: Vec<&str> = without.iter().filter_map(Value::as_str).collect();
    shared.withdraw_scopes(&scopes);
    Ok(json!({"without": scopes}))
}

fn arm(shared: &Shared, body: &Value) -> Result<Value, Refused> {
    let part = |key: &str| {
        body.get(key)
            .ok_or_else(|| wrong(&format!("`{key}` is missing")))
    };
    let (when, what) = (part("when")?, part("do")?);
    let mut matching = RequestMatch::path(field(when, "path")?);
    if let Some(method) = when.get("method").and_then(Value::as_str) {
        matching = matching.method(method);
    }
    matching = match when.get("point").and_then(Value::as_str) {
        None | Some("commit") => matching,
        Some("arrival") => matching.on_arrival(),
        Some("answer") => matching.after_commit(),
        Some(_) => return Err(wrong("`point` is arrival, commit or answer")),
    };
    let (method, path) = (field(what, "method")?, field(what, "path")?);
    let body = what.get("body").cloned().unwrap_or_default();
    let _once = shared
        .interventions
        .arm(matching, Intervention::call(method, path, body));
    Ok(json!({"armed": shared.interventions.waiting()}))
}

fn register(shared: &Shared, body: &Value) -> Result<Value, Refused> {
    if let Some(secret) = body.get("secret").and_then(Value::as_str) {
        shared.replace_secret(secret);
    }
    let url = body
        .get("url")
        .ok_or_else(|| wrong("`url` is missing; null disables the endpoint"))?;
    shared.register(url.as_str().map(str::to_owned));
    Ok(json!({"url": url}))
}

fn edit_benefit(shared: &Shared, id: &str, body: &Value) -> Result<Value, Refused> {
    let metadata = body.get("metadata").and_then(Value::as_object).cloned();
    let metadata = metadata.ok_or_else(|| wrong("`metadata` is an object"))?;
    let (id, mut store) = (parse(id)?, shared.lock());
    store
        .benefits
        .get(id)
        .ok_or_else(|| missing("no such benefit"))?;
    store.edit_benefit(id, Some(metadata), None);
    Ok(json!({"benefit_id": id}))
}

/// Everything Polar holds, in the API's own shapes where there are such.
fn state(shared: &Shared) -> Value {
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
        "deliveries_settled": store.deliveries_settled(), "faults": store.outbox.faults.to_string(),
        "failing": shared.outages.failing(), "armed": shared.interventions.waiting(),
    })
}

fn customer_state(store: &Store, row: &crate::model::Customer) -> Value {
    let members: Vec<Value> = store
        .living_members(row.id)
        .map(crate::views::member_view)
        .collect();
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

fn endpoint(row: &crate::model::Endpoint) -> Value {
    json!({"id": row.id, "url": row.url, "enabled": row.enabled, "events": row.events})
}

fn invoice(shared: &Shared, file: &str, query: &str) -> Response {
    let number = file.strip_suffix(".pdf").unwrap_or(file);
    let expires = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("expires=")?.parse().ok());
    let document = expires.and_then(|expires| shared.lock().invoice_document(number, expires));
    let Some(document) = document else {
        return crate::respond::plain(StatusCode::FORBIDDEN, "the link has expired or never was");
    };
    let mut response = Response::new(Body::from(document));
    response
        .headers_mut()
        .insert("content-type", HeaderValue::from_static("application/pdf"));
    response
}

fn field<'a>(body: &'a Value, key: &str) -> Result<&'a str, Refused> {
    body.get(key)
        .and_then(Value::as_str)
        .ok_or_else(|| wrong(&format!("`{key}` is missing or no text")))
}

fn parse(id: &str) -> Result<Uuid, Refused> {
    id.parse().map_err(|_| wrong("the id is no UUID"))
}

fn wrong(detail: &str) -> Refused {
    (StatusCode::UNPROCESSABLE_ENTITY, detail.to_owned())
}

fn missing(detail: &str) -> Refused {
    (StatusCode::NOT_FOUND, detail.to_owned())
}

fn refused(error: &StoryError) -> Refused {
    let status = match error {
        StoryError::WrongState { .. } => StatusCode::CONFLICT,
        _ => StatusCode::NOT_FOUND,
    };
    (status, error.to_string())
}
