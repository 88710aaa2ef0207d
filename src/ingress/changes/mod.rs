//! `POST /changes`: what the application tells us, one change or many, all or nothing.
//!
//! Here, unlike with deliveries, everything is checked before it is stored: the application is the
//! one that can correct a mistake, and hears of every fault at once. Readings of usage and cost become
//! rows and no job: the schedules pick them up.

mod batch;
mod store;

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

pub(super) use self::batch::Batch;
use self::batch::Refusal;
pub(super) use self::store::{rows, store_rows};
use super::answer::{refusal, unavailable};
use super::state::IngressState;
use super::{body, token};

/// Ten thousand changes of a usual size.
const BODY_LIMIT: usize = 8 << 20;
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Larger bodies are parsed where they keep no delivery waiting.
const PARSED_AT_ONCE: usize = 32 << 10;

pub(super) async fn receive(State(state): State<Arc<IngressState>>, request: Request) -> Response {
    let answer = answer(&state, request).await;
    metrics::counter!("polar_jobs_changes_requests_total", "status" => answer.status().as_str().to_owned())
        .increment(1);
    answer
}

async fn answer(state: &IngressState, request: Request) -> Response {
    let Some(token) = &state.app_token else {
        body::refuse(request).await;
        return unavailable("no application token is configured: set APP_TOKEN");
    };
    if !token::has_bearer_token(request.headers(), token) {
        body::refuse(request).await;
        return unauthorized();
    }
    let body = request.into_body();
    let received = match body::read(body, BODY_LIMIT, BODY_TIMEOUT, &state.change_bodies).await {
        Ok(received) => received,
        Err(error) => return error.answer(),
    };
    match parse(received.bytes.clone()).await {
        Ok(batch) => store(state, batch).await,
        Err(Refusal::TooMany) => refusal(
            StatusCode::PAYLOAD_TOO_LARGE,
            "more than 10000 changes in one request",
        ),
        Err(Refusal::Faulty(faults)) => (
            StatusCode::UNPROCESSABLE_ENTITY,
            Json(json!({ "errors": faults })),
        )
            .into_response(),
    }
}

async fn parse(bytes: Bytes) -> Result<Batch, Refusal> {
    if bytes.len() <= PARSED_AT_ONCE {
        return Batch::parse(&bytes);
    }
    tokio::task::spawn_blocking(move || Batch::parse(&bytes))
        .await
        .expect("the parser does not panic")
}

async fn store(state: &IngressState, batch: Batch) -> Response {
    let given = batch.len();
    match store::store(state.acceptor.single(), &batch).await {
        Ok(accepted) => {
            let counted =
                json!({ "accepted": accepted, "duplicates": given.saturating_sub(accepted) });
            (StatusCode::ACCEPTED, Json(counted)).into_response()
        }
        Err(reason) => unavailable(&reason.to_string()),
    }
}

fn unauthorized() -> Response {
    let mut answer = refusal(
        StatusCode::UNAUTHORIZED,
        "the bearer token is missing or wrong",
    );
    answer
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    answer
}
