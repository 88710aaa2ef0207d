//! Reads a refusal: status, headers and one of the many bodies that Polar, or something on the way
//! to it, can answer with.
//!
//! Whoever believes a gateway's 404 deletes what exists, and whoever believes a firewall's 403 gives
//! up what would succeed a minute later. So a refusal counts only in Polar's own words: every answer
//! of Polar below 500 carries the header `polar-version`, and every refusal of a thing a body with
//! the name of the error. Anything else is like no answer.

use chrono::Utc;
use reqwest::{
    StatusCode,
    header::{HeaderMap, WWW_AUTHENTICATE},
};
use serde_json::Value;

use crate::{Error, FieldFault, Invalid, LocPart, Operation, redact::Redactor, retry_after};

/// Polar's answers carry the version that they are of.
pub(crate) const VERSION: &str = "polar-version";

/// An answer that is no success.
pub(crate) struct Refusal<'a> {
    pub(crate) operation: Operation,
    pub(crate) status: StatusCode,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
}

/// Which error this answer is.
pub(crate) fn read(refusal: &Refusal<'_>, redactor: &Redactor<'_>) -> Error {
    let operation = refusal.operation;
    let words = Words::read(refusal.body, redactor);
    match refusal.status.as_u16() {
        401 => Error::Unauthorized {
            operation,
            error: words.error,
            detail: words.detail,
        },
        429 => Error::RateLimited {
            operation,
            retry_after: retry_after::read(refusal.headers, Utc::now()),
        },
        status @ 500..=599 => Error::Unavailable { operation, status },
        status if is_polars(refusal, &words) => in_words(refusal, status, words),
        status => Error::Intermediary { operation, status },
    }
}

/// Whether Polar itself says so. About a route that it does not know, or a method that a route does
/// not take, Polar gives no name; neither is there one in a redirect.
fn is_polars(refusal: &Refusal<'_>, words: &Words) -> bool {
    let version = refusal.headers.contains_key(VERSION);
    match refusal.status.as_u16() {
        ..400 => true,
        404 | 405 => version,
        422 => version && (!words.error.is_empty() || !words.faults.is_empty()),
        _ => version && !words.error.is_empty(),
    }
}

/// The refusals that are expressed in a name and a sentence.
#[rustfmt::skip] // one line each reads as the table that it is
fn in_words(refusal: &Refusal<'_>, status: u16, words: Words) -> Error {
    let operation = refusal.operation;
    let Words { error, detail, faults } = words;
    match status {
        402 => Error::PaymentFailed { operation, error, detail },
        403 if error == "insufficient_scope" => missing_scope(refusal),
        403 => Error::Forbidden { operation, error, detail },
        404 if !error.is_empty() => Error::NotFound { operation, error, detail },
        409 => Error::Conflict { operation, error, detail },
        422 => Error::Invalid(Invalid { operation, error, detail, faults }),
        _ => Error::Unexpected { operation, status, error, detail },
    }
}

/// What a body says, in whichever style it says it.
#[derive(Default)]
struct Words {
    error: String,
    detail: Option<String>,
    faults: Vec<FieldFault>,
}

impl Words {
    fn read(body: &[u8], redactor: &Redactor<'_>) -> Self {
        let Ok(Value::Object(body)) = serde_json::from_slice(body) else {
            return Self::default();
        };
        let text = |key: &str| body.get(key).and_then(Value::as_str);
        let error = text("error")
            .map(|text| redactor.clean(text))
            .unwrap_or_default();
        let detail = text("detail").or_else(|| text("error_description"));
        let faults = body.get("detail").and_then(Value::as_array);
        Self {
            detail: detail.map(|text| redactor.clean(text)),
            faults: faults
                .into_iter()
                .flatten()
                .map(|entry| fault(entry, redactor))
                .collect(),
            error,
        }
    }
}

/// One entry of a 422. Whatever is missing from it is left empty; `input` and `ctx` are left out.
fn fault(entry: &Value, redactor: &Redactor<'_>) -> FieldFault {
    let text = |key: &str| entry.get(key).and_then(Value::as_str);
    let steps = entry.get("loc").and_then(Value::as_array);
    FieldFault {
        kind: text("type")
            .map(|text| redactor.clean(text))
            .unwrap_or_default(),
        loc: steps
            .into_iter()
            .flatten()
            .filter_map(|step| loc_part(step, redactor))
            .collect(),
        message: text("msg")
            .map(|message| redactor.clean_about(message, text("input")))
            .unwrap_or_default(),
    }
}

fn loc_part(step: &Value, redactor: &Redactor<'_>) -> Option<LocPart> {
    match step {
        Value::Number(index) => index
            .as_u64()
            .and_then(|index| usize::try_from(index).ok())
            .map(LocPart::Index),
        Value::String(name) => Some(LocPart::Name(redactor.clean(name))),
        _ => None,
    }
}

/// A 403 names the scope in a header: `Bearer realm="polar", scope="events:write", ..`.
fn missing_scope(refusal: &Refusal<'_>) -> Error {
    let operation = refusal.operation;
    let challenge = refusal.headers.get(WWW_AUTHENTICATE);
    let named = challenge
        .and_then(|challenge| challenge.to_str().ok())
        .and_then(|challenge| challenge.split_once("scope=\""))
        .and_then(|(_, rest)| rest.split_once('"'))
        .map(|(scope, _)| scope)
        .filter(|scope| !scope.is_empty());
    let scope = named.or(operation.scope()).unwrap_or("that it needs");
    Error::MissingScope {
        operation,
        scope: scope.to_owned(),
    }
}
