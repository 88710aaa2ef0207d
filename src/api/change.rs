//! Requests that change something. Each runs to its end even where its caller hangs up or the time for
//! the answer is over, so that nothing is left half done; and one that comes again with the same
//! `Idempotency-Key` is answered as the first time.
//!
//! Kept is an answer that is final. One that asks to come again, or that could not know what became of the
//! change, is not: the next request with the key goes on where this one stopped.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jobs::mirror::api::requests::{self, Begun, RequestKey};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::access::Access;
use super::address::{CallerAddress, PeerAddress, caller_address};
use super::error::{ApiError, FieldError, Refusal};
use super::state::ApiState;

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const LONGEST_KEY: usize = 255;
const BODY_LIMIT: usize = 64 << 10;
/// The longest that a change may run on after its caller was answered: every call to Polar is bounded on
/// its own, this bounds them all.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(40);
/// For how long a request counts as under way that nobody finished. Longer than an answer takes; a change
/// that runs on longer is protected by its own lease.
const BUSY_TERM: Duration = Duration::from_secs(12);

/// A request that changes something, before its body means anything.
pub(super) struct Change {
    key: Option<String>,
    route: String,
    body: Bytes,
    address: Option<CallerAddress>,
}

/// What a change is given.
pub(super) struct Input<B> {
    pub(super) body: B,
    /// Where the person calls from, if that is known and a public address.
    pub(super) address: Option<IpAddr>,
    /// The same request began before and left no answer: what it asks for may be done already.
    pub(super) resumed: bool,
}

/// An answer that can be kept.
pub(super) struct Reply {
    status: StatusCode,
    body: Option<Value>,
}

impl Reply {
    pub(super) fn new(status: StatusCode, body: &impl Serialize) -> Self {
        let body = serde_json::to_value(body)
            .expect("answers are structs of ours with text keys, which always encode");
        Self {
            status,
            body: Some(body),
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

impl FromRequest<Arc<ApiState>> for Change {
    type Rejection = ApiError;

    async fn from_request(
        request: Request,
        state: &Arc<ApiState>,
    ) -> Result<Self, Self::Rejection> {
        let (parts, body) = request.into_parts();
        let peer = parts.extensions.get::<PeerAddress>().map(|peer| peer.0);
        Ok(Self {
            key: idempotency_key(&parts.headers)?,
            route: format!("{} {}", parts.method, below_organization(parts.uri.path())),
            address: caller_address(peer, &parts.headers, &state.trusted_proxies),
            body: read(&parts.headers, body).await?,
        })
    }
}

/// `/v1/organizations/{id}/subscription` → `/subscription`.
fn below_organization(path: &str) -> &str {
    let rest = path.trim_start_matches("/v1/organizations/");
    rest.find('/').map_or("", |at| &rest[at..])
}

/// A route that is part of a primary key, whose rows are at most a third of a page: an id in a path may be longer,
/// right or wrong.
fn indexable(route: &str) -> String {
    if route.len() <= LONGEST_KEY {
        return route.to_owned();
    }
    Sha256::digest(route)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = given.next() else {
        return Ok(None);
    };
    let key = value.to_str().ok().filter(|key| {
        (1..=LONGEST_KEY).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic())
    });
    match (key, given.next()) {
        (Some(key), None) => Ok(Some(key.to_owned())),
        _ => Err(Refusal::BadIdempotencyKey),
    }
}

async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, Refusal> {
    let announced = headers.get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > BODY_LIMIT) {
        return Err(Refusal::TooLarge);
    }
    axum::body::to_bytes(body, BODY_LIMIT)
        .await
        .map_err(|error| {
            // One cause is the limit; any other is a sender that stopped in the middle.
            let limit = std::error::Error::source(&error)
                .is_some_and(|cause| cause.is::<http_body_util::LengthLimitError>());
            if limit {
                Refusal::TooLarge
            } else {
                Refusal::BrokenBody
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

/// For changes whose path says everything.
#[expect(clippy::unnecessary_wraps, reason = "has the form of `json`")]
pub(super) fn no_body(_: &Bytes) -> Result<(), ApiError> {
    Ok(())
}

fn field_error(error: &serde_json::Error) -> FieldError {
    let text = error.to_string();
    if !error.is_data() {
        return FieldError::new("json_invalid", &["body"], "must be a JSON object");
    }
    let missing = text.strip_prefix("missing field `");
    match missing.and_then(|rest| rest.split_once('`')) {
        Some((field, _)) => FieldError::new("missing", &["body", field], "is required"),
        None => FieldError::of_body(text),
    }
}

impl Change {
    /// Makes the change, unless it was made before with the same key.
    pub(super) async fn once<G, B, F, Acted>(
        self,
        access: Access<G>,
        parse: fn(&Bytes) -> Result<B, ApiError>,
        act: F,
    ) -> Response
    where
        G: 'static,
        B: Send + 'static,
        F: FnOnce(Access<G>, Input<B>) -> Acted + Send + 'static,
        Acted: Future<Output = Result<Reply, ApiError>> + Send,
    {
        let body = match parse(&self.body) {
            Ok(body) => body,
            Err(error) => return error.into_response(),
        };
        // A task of its own: a caller that hangs up must not stop it in the middle.
        let done = tokio::spawn(async move {
            let (request, holder) = (self.request_key(&access), Uuid::new_v4());
            let resumed = match &request {
                None => false,
                Some(request) => match begin(&access.state, request, holder).await {
                    Ok(resumed) => resumed,
                    Err(answer) => return answer,
                },
            };
            let input = Input {
                body,
                address: self.address.and_then(|from| from.of_person(access.caller)),
                resumed,
            };
            let state = Arc::clone(&access.state);
            let acted = tokio::time::timeout(CHANGE_TIMEOUT, Box::pin(act(access, input))).await;
            let acted = acted.unwrap_or_else(|_| Err(Refusal::TooSlow.into()));
            if let Some(request) = &request {
                keep(&state, request, holder, &acted).await;
            }
            acted.map_or_else(IntoResponse::into_response, |reply| {
                answer(reply.status, reply.body.map(|body| body.to_string()))
            })
        });
        done.await
            .unwrap_or_else(|_| ApiError::from(Refusal::Internal).into_response())
    }

    fn request_key<G>(&self, access: &Access<G>) -> Option<RequestKey> {
        Some(RequestKey {
            organization: access.organization,
            caller: match access.caller.person() {
                None => "application".to_owned(),
                Some(person) => person.to_string(),
            },
            route: indexable(&self.route),
            key: self.key.clone()?,
            fingerprint: Sha256::digest(&self.body).to_vec(),
        })
    }
}

/// Whether the request was begun before; or the answer, where there is nothing to be done.
async fn begin(state: &ApiState, request: &RequestKey, holder: Uuid) -> Result<bool, Response> {
    match requests::begin(&state.pool, request, holder, BUSY_TERM).await {
        Ok(Begun::Go { resumed }) => Ok(resumed),
        Ok(Begun::Answered {
            status,
            answer: body,
        }) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            Err(answer(status, Some(body).filter(|body| !body.is_empty())))
        }
        Ok(Begun::InProgress) => Err(ApiError::from(Refusal::RequestInProgress).into_response()),
        Ok(Begun::OtherBody) => Err(ApiError::from(Refusal::OtherRequest).into_response()),
        Err(error) => Err(ApiError::from(error).into_response()),
    }
}

/// Keeps a final answer. Where that fails a repetition asks Polar again and finds the change made.
async fn keep(
    state: &ApiState,
    request: &RequestKey,
    holder: Uuid,
    acted: &Result<Reply, ApiError>,
) {
    let kept = match acted {
        Ok(reply) => Some((
            reply.status,
            reply
                .body
                .as_ref()
                .map(Value::to_string)
                .unwrap_or_default(),
        )),
        Err(error) => error
            .final_answer()
            .map(|answer| (answer.status, answer.body().to_string())),
    };
    let stored = match kept {
        Some((status, body)) => {
            requests::finish(&state.pool, request, holder, status.as_u16(), &body).await
        }
        None => requests::release(&state.pool, request, holder).await,
    };
    if let Err(error) = stored {
        tracing::warn!(organization = %request.organization, %error, "an answer could not be kept");
    }
}

fn answer(status: StatusCode, body: Option<String>) -> Response {
    const JSON: HeaderValue = HeaderValue::from_static("application/json");
    match body {
        Some(body) => (status, [(header::CONTENT_TYPE, JSON)], body).into_response(),
        None => status.into_response(),
    }
}
