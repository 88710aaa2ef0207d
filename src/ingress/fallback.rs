//! Requests that no route takes: their bodies are read to the end, so that they get the answer.

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;

use super::answer::fixed;
use super::body;

/// No such route.
pub(super) async fn not_found(request: Request) -> Response {
    body::refuse(request).await;
    fixed(
        StatusCode::NOT_FOUND,
        r#"{"error":"there is no such route"}"#,
    )
}

/// The route exists, but not with this method; axum adds `Allow`.
pub(super) async fn wrong_method(request: Request) -> Response {
    body::refuse(request).await;
    fixed(
        StatusCode::METHOD_NOT_ALLOWED,
        r#"{"error":"this route has another method"}"#,
    )
}
