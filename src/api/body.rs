//! The bodies of requests: how large they may be, and what is wrong with one that cannot be read.

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use serde::de::DeserializeOwned;

use super::error::{ApiError, FieldError, Refusal};

const BODY_LIMIT: usize = 64 << 10;

/// Reads the whole body.
///
/// # Errors
/// `TooLarge`, or `BrokenBody` where the sender stopped in the middle.
pub(super) async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, Refusal> {
    let announced = headers.get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > BODY_LIMIT) {
        return Err(Refusal::TooLarge);
    }
    axum::body::to_bytes(body, BODY_LIMIT)
        .await
        .map_err(|error| {
            let is_limit = std::error::Error::source(&error)
                .is_some_and(|cause| cause.is::<http_body_util::LengthLimitError>());
            match is_limit {
                true => Refusal::TooLarge,
                false => Refusal::BrokenBody,
            }
        })
}

/// Reads a JSON body; none is an empty object.
pub(super) fn json<B: DeserializeOwned>(body: &Bytes) -> Result<B, ApiError> {
    let text = if body.is_empty() {
        b"{}"
    } else {
        body.as_ref()
    };
    serde_json::from_slice(text).map_err(|error| field_error(&error).into())
}

/// For mutations whose path says everything.
#[expect(clippy::unnecessary_wraps, reason = "has the form of `json`")]
pub(super) fn no_body(_: &Bytes) -> Result<(), ApiError> {
    Ok(())
}

fn field_error(error: &serde_json::Error) -> FieldError {
    if !error.is_data() {
        return FieldError::new("json_invalid", &["body"], "must be a JSON object");
    }
    let text = error.to_string();
    let missing = text.strip_prefix("missing field `");
    match missing.and_then(|rest| rest.split_once('`')) {
        Some((field, _)) => FieldError::new("missing", &["body", field], "is required"),
        None => FieldError::of_body(text),
    }
}
