//! A simulator in a process of its own is steered and looked into over HTTP, under `/simulator/` on its own port,
//! without a token. `control_routes` lists them.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::http::control_answers::{Refused, field, missing, parse, refused, wrong};
use crate::http::shared::Shared;
use crate::http::{control_customers, control_faults, control_state};
use crate::world::catalogue::Product;
use crate::world::lifecycle::Start;
use crate::world::steps::{Buyer, SubscriptionStep};

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
        return control_state::invoice(shared, file, parts.uri.query().unwrap_or_default());
    }
    let outcome = match serde_json::from_slice(body) {
        Ok(body) => obey(shared, parts.method.as_str(), &path, &body).await,
        Err(_) if body.is_empty() => obey(shared, parts.method.as_str(), &path, &Value::Null).await,
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
pub(crate) async fn obey(
    shared: &Arc<Shared>,
    method: &str,
    path: &[&str],
    body: &Value,
) -> Result<Value, Refused> {
    match (method, path) {
        ("GET", ["state"]) => Ok(control_state::state(shared)),
        ("GET", ["requests"]) => Ok(json!(shared.lock().requests)),
        ("POST", ["purchase"]) => purchase(shared, body),
        ("POST", ["advance"]) => advance(shared, body).await,
        ("POST", ["faults"]) => change_faults(shared, body),
        ("POST", ["fail"]) => control_faults::fail(shared, body),
        ("POST", ["token"]) => control_faults::revoke_token(shared, body),
        ("POST", ["gateway"]) => control_faults::set_gateway(shared, body),
        ("POST", ["scopes"]) => control_faults::withdraw_scopes(shared, body),
        ("POST", ["arm"]) => control_faults::arm(shared, body),
        ("POST", ["webhook"]) => register(shared, body),
        ("POST", ["subscriptions", id, word]) => {
            let step = SubscriptionStep::named(word)
                .ok_or_else(|| missing("no such step of a subscription"))?;
            shared
                .lock()
                .take_step(parse(id)?, step)
                .map_err(|error| refused(&error))?;
            Ok(json!({"subscription_id": id}))
        }
        ("POST", ["customers", id, "change_plan"]) => {
            control_customers::change_plan(shared, id, body)
        }
        ("POST", ["customers", id, "benefit"]) => control_customers::edit_benefit(shared, id, body),
        ("POST", ["customers", id, word]) => control_customers::step(shared, id, word),
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
            "no such route; the page at the root of this address lists them",
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
    let bought = shared.lock().buy(&buyer, product, start);
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
