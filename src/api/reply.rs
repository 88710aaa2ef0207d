//! Answers that can be kept for a repeated request.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// The answer to a mutation that was made.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    /// JSON; `None` = the answer has no body.
    pub(super) body: Option<String>,
}

impl Reply {
    pub(super) fn new(status: StatusCode, body: &impl Serialize) -> Self {
        let body = serde_json::to_value(body)
            .expect("answers are structs of ours with text keys, which always encode");
        Self {
            status,
            body: Some(body.to_string()),
        }
    }

    pub(super) fn ok(body: &impl Serialize) -> Self {
        Self::new(StatusCode::OK, body)
    }

    pub(super) fn no_content() -> Self {
        Self {
            status: StatusCode::NO_CONTENT,
            body: None,
        }
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        const JSON: HeaderValue = HeaderValue::from_static("application/json");
        match self.body {
            Some(body) => (self.status, [(header::CONTENT_TYPE, JSON)], body).into_response(),
            None => self.status.into_response(),
        }
    }
}
