//! `POST /integrations/polar/webhook`: is it Polar's, keep it, say so.
//!
//! Nothing here reads a delivery strictly: Polar disables an endpoint that answers ten deliveries in a
//! row with an error, and a payload with a new field or value must never do that. What a delivery means
//! is the worker's business.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use chrono::Utc;
use metrics::{counter, gauge};
use polar::webhook::{SignatureError, SignatureHeaders};

use super::accept::{Accepted, Unavailable};
use super::answer::{fixed, refusal, unavailable};
use super::body::{self, BodyError};
use super::delivery::Delivery;
use super::state::IngressState;

/// Real deliveries are a few KiB.
const BODY_LIMIT: usize = 1 << 20;
/// Polar itself gives up after 10 s.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Polar's ids are 36 characters; an index entry cannot hold much more than this.
const ID_LIMIT: usize = 1024;

/// The reasons that an operator should hear of. A counter that appears with its first event has no growth that an alert
/// could see, so these are shown from the start.
const ALARMING: [&str; 6] = [
    "signature",
    "clock",
    "no_secret",
    "no_memory",
    "busy",
    "database",
];

/// Shows the counters that alerts look at.
pub(super) fn start_at_zero() {
    for reason in ALARMING {
        counter!("polar_jobs_deliveries_refused_total", "reason" => reason).increment(0);
    }
}

/// Why a delivery was not stored.
enum NotStored {
    /// No secret is configured.
    NoSecret,
    Body(BodyError),
    Signature(SignatureError),
    /// Its id does not fit into an index.
    Id,
    Database(Unavailable),
}

pub(super) async fn receive(State(state): State<Arc<IngressState>>, request: Request) -> Response {
    let answer = match accept(&state, request).await {
        Ok(Accepted::Stored) => fixed(StatusCode::ACCEPTED, r#"{"status":"stored"}"#),
        Ok(Accepted::Duplicate) => fixed(StatusCode::ACCEPTED, r#"{"status":"duplicate"}"#),
        Err(reason) => {
            counter!("polar_jobs_deliveries_refused_total", "reason" => reason.label())
                .increment(1);
            if matches!(reason, NotStored::Signature(SignatureError::Mismatch)) {
                state.refused_deliveries.add();
            }
            reason.answer()
        }
    };
    counter!("polar_jobs_deliveries_total", "status" => answer.status().as_str().to_owned())
        .increment(1);
    answer
}

async fn accept(state: &IngressState, request: Request) -> Result<Accepted, NotStored> {
    if !state.verifier.is_configured() {
        body::refuse(request).await;
        return Err(NotStored::NoSecret);
    }
    let (head, body) = request.into_parts();
    // Its memory is counted until the delivery is stored.
    let received = body::read(body, BODY_LIMIT, BODY_TIMEOUT, &state.delivery_bodies)
        .await
        .map_err(NotStored::Body)?;
    let verified = state
        .verifier
        .verify(
            signature_headers(&head.headers),
            &received.bytes,
            Utc::now(),
        )
        .map_err(NotStored::Signature)?;
    if verified.id.len() > ID_LIMIT {
        return Err(NotStored::Id);
    }
    let delivery = Delivery::new(verified.id.to_owned(), received.bytes.clone());
    let _waiting = QueueGauge::count(delivery.size());
    let stored = state.acceptor.deliver(delivery).await;
    stored.map_err(NotStored::Database)
}

fn signature_headers(headers: &HeaderMap) -> SignatureHeaders<'_> {
    let named = |name| headers.get(name).map(axum::http::HeaderValue::as_bytes);
    SignatureHeaders {
        id: named("webhook-id"),
        timestamp: named("webhook-timestamp"),
        signature: named("webhook-signature"),
    }
}

impl NotStored {
    /// Says which check failed: Polar shows the answer to the operator, who finds the fault faster so.
    fn answer(&self) -> Response {
        match self {
            Self::NoSecret | Self::Signature(SignatureError::NoSecret) => {
                unavailable("no webhook secret is configured: set POLAR_WEBHOOK_SECRET")
            }
            Self::Body(error) => error.answer(),
            Self::Signature(reason) => {
                if matches!(reason, SignatureError::TooOld | SignatureError::TooNew) {
                    tracing::warn!(%reason, "a rightly signed delivery was refused: is this host's clock right?");
                } else {
                    tracing::debug!(%reason, "a delivery was refused");
                }
                refusal(StatusCode::UNAUTHORIZED, &reason.to_string())
            }
            Self::Id => refusal(
                StatusCode::PAYLOAD_TOO_LARGE,
                "the header webhook-id is longer than 1024 bytes",
            ),
            Self::Database(reason) => unavailable(&reason.to_string()),
        }
    }

    /// One word for a metric.
    fn label(&self) -> &'static str {
        match self {
            Self::NoSecret | Self::Signature(SignatureError::NoSecret) => "no_secret",
            Self::Body(error) => error.label(),
            Self::Signature(SignatureError::TooOld | SignatureError::TooNew) => "clock",
            Self::Signature(SignatureError::Mismatch) => "signature",
            Self::Signature(_) => "headers",
            Self::Id => "too_large",
            Self::Database(Unavailable::Busy) => "busy",
            Self::Database(Unavailable::Stopping) => "stopping",
            Self::Database(_) => "database",
        }
    }
}

/// A verified delivery on its way through the writer, for the gauges.
struct QueueGauge {
    bytes: f64,
}

impl QueueGauge {
    fn count(bytes: usize) -> Self {
        let bytes = u32::try_from(bytes).map_or(f64::from(u32::MAX), f64::from);
        gauge!("polar_jobs_ingress_queue_length").increment(1);
        gauge!("polar_jobs_ingress_queue_bytes").increment(bytes);
        Self { bytes }
    }
}

impl Drop for QueueGauge {
    fn drop(&mut self) {
        gauge!("polar_jobs_ingress_queue_length").decrement(1);
        gauge!("polar_jobs_ingress_queue_bytes").decrement(self.bytes);
    }
}
