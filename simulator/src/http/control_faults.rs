//! What goes wrong beside the dice is asked for over HTTP as well: one customer, a gateway, a scope, somebody else.

use std::time::Duration;

use serde_json::{Value, json};

use crate::http::armed::Intervention;
use crate::http::control_answers::{Refused, field, wrong};
use crate::http::hold::RequestMatch;
use crate::http::outages::{EVERYBODY, Gateway};
use crate::http::shared::Shared;

pub(crate) fn fail(shared: &Shared, body: &Value) -> Result<Value, Refused> {
    let mut known = true;
    match body.get("customer") {
        Some(Value::Null) => shared.outages.fail_nobody(),
        _ => {
            let customer = field(body, "customer")?;
            let status = number(body, "status")?.unwrap_or(500);
            let status = u16::try_from(status)
                .ok()
                .filter(|code| (400..600).contains(code));
            let status = status.ok_or_else(|| wrong("`status` is from 400 to 599"))?;
            let lasting = number(body, "seconds")?.map(Duration::from_secs);
            shared.outages.fail(customer, status, lasting);
            known = customer == EVERYBODY || shared.lock().has_customer(customer);
        }
    }
    Ok(json!({"failing": shared.outages.failing(), "known": known}))
}

/// A whole number that may be missing.
fn number(body: &Value, key: &str) -> Result<Option<u64>, Refused> {
    match body.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value
            .as_u64()
            .map(Some)
            .ok_or_else(|| wrong(&format!("`{key}` is a whole number"))),
    }
}

pub(crate) fn revoke_token(shared: &Shared, body: &Value) -> Result<Value, Refused> {
    match body.get("revoked").and_then(Value::as_bool) {
        None => return Err(wrong("`revoked` is true or false")),
        Some(true) => shared.access.revoke_token(&shared.access_token),
        // The same as taking nothing away from it.
        Some(false) => shared.withdraw_scopes(&[]),
    }
    Ok(json!({"revoked": body["revoked"]}))
}

pub(crate) fn set_gateway(shared: &Shared, body: &Value) -> Result<Value, Refused> {
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

pub(crate) fn withdraw_scopes(shared: &Shared, body: &Value) -> Result<Value, Refused> {
    let without = body.get("without").and_then(Value::as_array);
    let without = without.ok_or_else(|| wrong("`without` is a list of scopes"))?;
    let scopes: Vec<&str> = without.iter().filter_map(Value::as_str).collect();
    shared.withdraw_scopes(&scopes);
    Ok(json!({"without": scopes}))
}

pub(crate) fn arm(shared: &Shared, body: &Value) -> Result<Value, Refused> {
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
