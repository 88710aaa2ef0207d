//! Requests that change something. Each runs to its end even where its caller hangs up or the time for the
//! answer is over, so that nothing is left half done.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};

use super::access::Access;
use super::address::{CallerAddress, PeerAddress, caller_address};
use super::body;
use super::error::{ApiError, Refusal};
use super::idempotency::{Begun, IdempotencyKey};
use super::reply::Reply;
use super::state::ApiState;

/// The longest that a mutation may run on after its caller was answered: each call to Polar has a timeout of its
/// own, and this is one for all of them.
const MUTATION_TIMEOUT: Duration = Duration::from_secs(40);

/// A request that changes something, with its body not parsed yet.
pub(super) struct Mutation {
    key: Option<IdempotencyKey>,
    body: Bytes,
    address: Option<CallerAddress>,
}

/// What a mutation is made of.
pub(super) struct Input<B> {
    pub(super) body: B,
    /// Where the person calls from, if that is known and a public address.
    pub(super) address: Option<IpAddr>,
    /// The same request began before and left no answer: what it asks for may be done already.
    pub(super) resumed: bool,
}

impl FromRequest<Arc<ApiState>> for Mutation {
    type Rejection = ApiError;

    async fn from_request(
        request: Request,
        state: &Arc<ApiState>,
    ) -> Result<Self, Self::Rejection> {
        let (parts, body) = request.into_parts();
        let peer = parts.extensions.get::<PeerAddress>().map(|peer| peer.0);
        Ok(Self {
            key: IdempotencyKey::of(&parts)?,
            address: caller_address(peer, &parts.headers, &state.trusted_proxies),
            body: body::read(&parts.headers, body).await?,
        })
    }
}

impl Mutation {
    /// Parses the body and makes the mutation, unless it was made before with the same `Idempotency-Key`.
    pub(super) async fn run_once<G, B, F, Acted>(
        self,
        access: Access<G>,
        parse: fn(&Bytes) -> Result<B, ApiError>,
        act: F,
    ) -> Response
    where
        G: 'static,
        B: Send + 'static,
        F: FnOnce(Access<G>, Input<B>) -> Acted + Send + 'static,
        Acted: Future<Output = Result<Reply, ApiError>> + Send + 'static,
    {
        let body = match parse(&self.body) {
            Ok(body) => body,
            Err(error) => return error.into_response(),
        };
        // A task of its own: a caller that hangs up must not stop it in the middle.
        let task = tokio::spawn(self.run(access, body, act));
        let result = task.await;
        result
            .unwrap_or_else(|_| Err(Refusal::Internal.into()))
            .into_response()
    }

    async fn run<G, B, F, Acted>(
        self,
        access: Access<G>,
        body: B,
        act: F,
    ) -> Result<Reply, ApiError>
    where
        F: FnOnce(Access<G>, Input<B>) -> Acted,
        Acted: Future<Output = Result<Reply, ApiError>>,
    {
        let request = self.key.map(|key| key.request(&access, &self.body));
        let resumed = match &request {
            None => false,
            Some(request) => match request.begin().await? {
                Begun::Run { resumed } => resumed,
                Begun::Answered(reply) => return Ok(reply),
            },
        };
        let input = Input {
            body,
            address: self.address.and_then(|from| from.of_person(access.caller)),
            resumed,
        };
        let result = tokio::time::timeout(MUTATION_TIMEOUT, Box::pin(act(access, input))).await;
        let result = result.unwrap_or_else(|_| Err(Refusal::TooSlow.into()));
        if let Some(request) = &request {
            request.keep(&result).await;
        }
        result
    }
}
