//! One line per request: who asked what about which organization, what came of it, how long it took, and
//! under which ids Polar knows the calls. Never a body and never a token.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, RawPathParams, Request};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use jobs::types::{OrganizationId, UserId};
use polar::RequestIds;

use super::error::{ApiError, Refusal};

/// The longest that a caller waits for an answer; with reading and writing it stays below 10 s.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(9500);

/// What handlers tell the log.
#[derive(Clone, Default)]
pub(super) struct Facts {
    person: Arc<Mutex<Option<UserId>>>,
    request_ids: RequestIds,
}

impl Facts {
    /// Those of a request.
    pub(super) fn of(parts: &Parts) -> Self {
        parts.extensions.get::<Self>().cloned().unwrap_or_default()
    }

    pub(super) fn person(&self, person: UserId) {
        *self.person.lock().unwrap_or_else(PoisonError::into_inner) = Some(person);
    }

    pub(super) fn request_ids(&self) -> RequestIds {
        self.request_ids.clone()
    }
}

/// Why a request failed, for the log alone.
#[derive(Clone)]
pub(super) struct Cause(pub(super) String);

/// Answers within the time, and writes the line.
pub(super) async fn log(params: RawPathParams, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let facts = Facts::default();
    request.extensions_mut().insert(facts.clone());
    let method = request.method().clone();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map(|path| path.as_str().to_owned());
    // What is no id may be anything, and is not repeated.
    let organization = params
        .iter()
        .find(|(name, _)| *name == "organization_id")
        .and_then(|(_, id)| OrganizationId::parse(id));
    let response = tokio::time::timeout(ANSWER_TIMEOUT, next.run(request))
        .await
        .unwrap_or_else(|_| ApiError::from(Refusal::TooSlow).into_response());
    let person = *facts.person.lock().unwrap_or_else(PoisonError::into_inner);
    tracing::info!(
        %method,
        route = route.as_deref().unwrap_or_default(),
        organization = organization.map(tracing::field::display),
        person = person.map(tracing::field::display),
        status = response.status().as_u16(),
        // A number: 128 bits would be written as text.
        milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        polar_request_ids = facts.request_ids.joined(),
        error = response.extensions().get::<Cause>().map(|cause| cause.0.as_str()),
        "answered"
    );
    response
}
