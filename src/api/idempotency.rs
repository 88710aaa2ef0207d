//! A request that comes again with the same `Idempotency-Key` is answered as the first time, for a day.
//!
//! Only a final answer is kept. One that asks to come again, or does not know what became of the mutation, is not:
//! the next request with the key goes on where this one stopped.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::StatusCode;
use axum::http::request::Parts;
use jobs::mirror::api::requests::{self, RequestKey};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::access::Access;
use super::error::{ApiError, Refusal};
use super::reply::Reply;
use super::state::ApiState;

const HEADER: &str = "idempotency-key";
const LONGEST_KEY: usize = 255;
/// After this time without an answer others take a request over. Longer than an answer takes; a change of the
/// subscription that runs on longer is protected by its own lease.
const IN_PROGRESS_TIMEOUT: Duration = Duration::from_secs(12);

/// The key that a caller gave, and the route that it is for.
pub(super) struct IdempotencyKey {
    key: String,
    route: String,
}

impl IdempotencyKey {
    /// Returns the key of a request; `None` where it has none.
    ///
    /// # Errors
    /// `BadIdempotencyKey` for more than one, and for one that is not 1 to 255 visible characters.
    pub(super) fn of(parts: &Parts) -> Result<Option<Self>, Refusal> {
        let mut given = parts.headers.get_all(HEADER).iter();
        let Some(value) = given.next() else {
            return Ok(None);
        };
        let key = value.to_str().ok().filter(|key| {
            (1..=LONGEST_KEY).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic())
        });
        match (key, given.next()) {
            (Some(key), None) => Ok(Some(Self {
                key: key.to_owned(),
                route: format!("{} {}", parts.method, below_organization(parts.uri.path())),
            })),
            _ => Err(Refusal::BadIdempotencyKey),
        }
    }

    /// The request with this key, of this caller.
    pub(super) fn request<G>(self, access: &Access<G>, body: &Bytes) -> IdempotentRequest {
        let key = RequestKey {
            organization: access.organization,
            caller: match access.caller.person() {
                None => "application".to_owned(),
                Some(person) => person.to_string(),
            },
            route: indexable(self.route),
            key: self.key,
            fingerprint: Sha256::digest(body).to_vec(),
        };
        IdempotentRequest {
            state: Arc::clone(&access.state),
            key,
            holder: Uuid::new_v4(),
        }
    }
}

/// `/v1/organizations/{id}/subscription` → `/subscription`.
fn below_organization(path: &str) -> &str {
    let rest = path.trim_start_matches("/v1/organizations/");
    rest.find('/').map_or("", |at| &rest[at..])
}

/// A route that is part of a primary key, whose rows are at most a third of a page: an id in a path may be longer,
/// right or wrong.
fn indexable(route: String) -> String {
    if route.len() <= LONGEST_KEY {
        return route;
    }
    Sha256::digest(route)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A request that has an `Idempotency-Key`.
pub(super) struct IdempotentRequest {
    state: Arc<ApiState>,
    key: RequestKey,
    /// An id of this attempt: another process may have taken the request over since.
    holder: Uuid,
}

/// What is to be done about a request.
pub(super) enum Begun {
    /// The mutation is to be made.
    Run {
        /// An earlier request with the key began and left no answer: the mutation may be made already.
        resumed: bool,
    },
    /// It was answered, like this.
    Answered(Reply),
}

impl IdempotentRequest {
    /// Begins the request, unless it was answered before.
    ///
    /// # Errors
    /// `RequestInProgress`, `OtherRequest`, or if the database fails.
    pub(super) async fn begin(&self) -> Result<Begun, ApiError> {
        let pool = &self.state.pool;
        match requests::begin(pool, &self.key, self.holder, IN_PROGRESS_TIMEOUT).await? {
            requests::Begun::Go { resumed } => Ok(Begun::Run { resumed }),
            requests::Begun::Answered { status, answer } => Ok(Begun::Answered(Reply {
                status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                body: Some(answer).filter(|body| !body.is_empty()),
            })),
            requests::Begun::InProgress => Err(Refusal::RequestInProgress.into()),
            requests::Begun::OtherBody => Err(Refusal::OtherRequest.into()),
        }
    }

    /// Keeps a final answer. Where that fails a repetition asks Polar again and finds the mutation made.
    pub(super) async fn keep(&self, result: &Result<Reply, ApiError>) {
        let kept = match result {
            Ok(reply) => Some((reply.status, reply.body.clone().unwrap_or_default())),
            Err(error) => error
                .final_answer()
                .map(|answer| (answer.status, answer.body().to_string())),
        };
        let pool = &self.state.pool;
        let stored = match kept {
            Some((status, body)) => {
                requests::finish(pool, &self.key, self.holder, status.as_u16(), &body).await
            }
            None => requests::release(pool, &self.key, self.holder).await,
        };
        if let Err(error) = stored {
            tracing::warn!(organization = %self.key.organization, %error, "an answer could not be kept");
        }
    }
}
