//! `POST /integrations/polar/webhook`: is it Polar's, keep it, say so (contract 3).
//!
//! Nothing here reads a delivery strictly: a payload with a new field or value must never make
//! Polar disable the endpoint (polar-domain (c.3)). That is the worker's business.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use chrono::Utc;
use polar::webhook::{SignatureError, SignatureHeaders};

use super::accept::Accepted;
use super::answer::{fixed, refusal, unavailable};
use super::body;
use super::delivery::Delivery;
use super::door::Door;

/// Real deliveries are a few KiB.
const BODY_LIMIT: usize = 1 << 20;
/// Polar itself gives up after 10 s (polar-domain (c.1)).
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Polar's ids are 36 characters; an index entry cannot hold much more than this.
const ID_LIMIT: usize = 1024;

pub(super) async fn receive(State(door): State<Arc<Door>>, request: Request) -> Response {
    let answer = answer(&door, request).await;
    metrics::counter!("polar_jobs_deliveries_total", "status" => answer.status().as_str().to_owned()).increment(1);
    answer
}

async fn answer(door: &Door, request: Request) -> Response {
    if !door.verifier.is_configured() {
        body::refuse(request).await;
        return unavailable("no webhook secret is configured: set POLAR_WEBHOOK_SECRET");
    }
    let (head, body) = request.into_parts();
    let bytes = match body::read(body, BODY_LIMIT, BODY_TIMEOUT).await {
        Ok(bytes) => bytes,
        Err(unreadable) => return unreadable.answer(),
    };
    let id = match door
        .verifier
        .verify(signature_headers(&head.headers), &bytes, Utc::now())
    {
        Ok(verified) => verified.id.to_owned(),
        Err(reason) => return refused(reason),
    };
    if id.len() > ID_LIMIT {
        return refusal(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the header webhook-id is longer than 1024 bytes",
        );
    }
    match door.acceptor.deliver(Delivery::new(id, bytes)).await {
        Ok(Accepted::Stored) => fixed(StatusCode::ACCEPTED, r#"{"status":"stored"}"#),
        Ok(Accepted::Duplicate) => fixed(StatusCode::ACCEPTED, r#"{"status":"duplicate"}"#),
        Err(reason) => unavailable(&reason.to_string()),
    }
}

fn signature_headers(headers: &HeaderMap) -> SignatureHeaders<'_> {
    let named = |name| headers.get(name).map(axum::http::HeaderValue::as_bytes);
    SignatureHeaders {
        id: named("webhook-id"),
        timestamp: named("webhook-timestamp"),
        signature: named("webhook-signature"),
    }
}

/// Says which check failed: Polar shows the answer to the operator, who mends it faster so.
fn refused(reason: SignatureError) -> Response {
    if reason == SignatureError::NoSecret {
        return unavailable("no webhook secret is configured: set POLAR_WEBHOOK_SECRET");
    }
    tracing::debug!(%reason, "a delivery was refused");
    refusal(StatusCode::UNAUTHORIZED, &reason.to_string())
}
