//! Reads a refusal: status, headers and one of the many bodies that Polar, or something on the way
//! to it, can answer with (polar-domain (i), R11, R14, R25, R28, R31).
//!
//! The status decides; the body only adds words. So a body that is missing, of another style, or
//! of another kind costs us words and never the meaning.

use chrono::Utc;
use reqwest::{
    StatusCode,
    header::{HeaderMap, WWW_AUTHENTICATE},
};
use serde_json::Value;

use crate::{Error, FieldFault, Invalid, LocPart, Operation, redact::Redactor, retry_after};

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
        422 => Error::Invalid(Invalid {
            operation,
            error: words.error,
            detail: words.detail,
            faults: words.faults,
        }),
        429 => Error::RateLimited {
            operation,
            retry_after: retry_after::read(refusal.headers, Utc::now()),
        },
        status @ 500..=599 => Error::Unavailable { operation, status },
        status => in_words(refusal, status, words),
    }
}

/// The refusals that are told in a name and a sentence.
#[rustfmt::skip] // one line each reads as the table that it is
fn in_words(refusal: &Refusal<'_>, status: u16, words: Words) -> Error {
    let operation = refusal.operation;
    let Words { error, detail, speaks_of_the_route, .. } = words;
    match status {
        401 => Error::Unauthorized { operation, error, detail },
        402 => Error::PaymentFailed { operation, error, detail },
        403 => Error::Forbidden { operation, error, detail, scope: missing_scope(refusal.headers) },
        404 if !speaks_of_the_route => Error::NotFound { operation, error, detail },
        409 => Error::Conflict { operation, error, detail },
        _ => Error::Unexpected { operation, status, error, detail },
    }
}

/// What a body says, in whichever style it says it.
#[derive(Default)]
struct Words {
    error: String,
    detail: Option<String>,
    faults: Vec<FieldFault>,
    /// Nobody looked for the thing: no such route or version (R31), or no word of Polar's.
    speaks_of_the_route: bool,
}

impl Words {
    fn read(body: &[u8], redactor: &Redactor<'_>) -> Self {
        let Ok(Value::Object(body)) = serde_json::from_slice(body) else {
            return Self {
                speaks_of_the_route: true,
                ..Self::default()
            };
        };
        let text = |key: &str| body.get(key).and_then(Value::as_str);
        let error = text("error")
            .map(|text| redactor.clean(text))
            .unwrap_or_default();
        let detail = text("detail").or_else(|| text("error_description"));
        let faults = body.get("detail").and_then(Value::as_array);
        Self {
            speaks_of_the_route: error.is_empty() && detail == Some("Not Found"),
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

/// The scope that a 403 asks for: `Bearer realm="polar", scope="events:write", ..`.
fn missing_scope(headers: &HeaderMap) -> Option<String> {
    let challenge = headers.get(WWW_AUTHENTICATE)?.to_str().ok()?;
    let (_, rest) = challenge.split_once("scope=\"")?;
    let (scope, _) = rest.split_once('"')?;
    (!scope.is_empty()).then(|| scope.to_owned())
}
