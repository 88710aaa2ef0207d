//! Answers: JSON, short, and never a secret or a name in them.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// Polar waits four seconds and more before it sends again; sooner is of no use to anybody.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("5");

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// An answer whose body never changes, which spares the busiest route a serialization.
pub(super) fn fixed(status: StatusCode, body: &'static str) -> Response {
    (status, [(header::CONTENT_TYPE, JSON)], body).into_response()
}

/// A refusal with its reason.
pub(super) fn refusal(status: StatusCode, reason: &str) -> Response {
    (status, Json(json!({ "error": reason }))).into_response()
}

/// Nothing was stored, and it is worth trying again.
pub(super) fn unavailable(reason: &str) -> Response {
    let mut answer = refusal(StatusCode::SERVICE_UNAVAILABLE, reason);
    answer
        .headers_mut()
        .insert(header::RETRY_AFTER, RETRY_AFTER_SECONDS);
    answer
}
