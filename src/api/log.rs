//! One line per request: who called which route about which organization, the status, how long it took, and the
//! ids that Polar gave the calls. Never a body and never a token.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, RawPathParams, Request};
use axum::http::Method;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use jobs::types::{OrganizationId, UserId};
use polar::RequestIds;

use super::error::{ApiError, Refusal};

/// The longest that a caller waits for an answer; with reading and writing it stays below 10 s.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(9500);

/// What handlers add to the line.
#[derive(Clone, Default)]
pub(super) struct Facts {
    person: Arc<Mutex<Option<UserId>>>,
    request_ids: RequestIds,
}

impl Facts {
    /// Returns those of a request.
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
    let facts = Facts::default();
    request.extensions_mut().insert(facts.clone());
    let mut line = Line::of(&params, &request, facts);
    let response = tokio::time::timeout(ANSWER_TIMEOUT, next.run(request))
        .await
        .unwrap_or_else(|_| ApiError::from(Refusal::TooSlow).into_response());
    line.status = Some(response.status().as_u16());
    line.cause = response.extensions().get::<Cause>().cloned();
    response
}

/// Written when it is dropped, because the handler is dropped in the middle where its caller hangs up. A mutation
/// that it began goes on.
struct Line {
    started: Instant,
    method: Method,
    route: String,
    organization: Option<OrganizationId>,
    facts: Facts,
    /// `None` where nobody waited for the answer.
    status: Option<u16>,
    cause: Option<Cause>,
}

impl Line {
    fn of(params: &RawPathParams, request: &Request, facts: Facts) -> Self {
        let route = request.extensions().get::<MatchedPath>();
        Self {
            started: Instant::now(),
            method: request.method().clone(),
            route: route.map_or_else(String::new, |path| path.as_str().to_owned()),
            // What is not an id may be anything, a secret too, and is not logged.
            organization: params
                .iter()
                .find(|(name, _)| *name == "organization_id")
                .and_then(|(_, id)| OrganizationId::parse(id)),
            facts,
            status: None,
            cause: None,
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let person = *self
            .facts
            .person
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let what = match self.status {
            Some(_) => "answered",
            None => "the caller hung up",
        };
        tracing::info!(
            method = %self.method,
            route = self.route,
            organization = self.organization.map(tracing::field::display),
            person = person.map(tracing::field::display),
            status = self.status,
            // A number: 128 bits would be written as text.
            milliseconds = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            polar_request_ids = self.facts.request_ids.joined(),
            error = self.cause.as_ref().map(|cause| cause.0.as_str()),
            "{what}"
        );
    }
}
