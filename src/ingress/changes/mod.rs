//! `POST /changes`: what the application tells us, one change or many, all or nothing (contract 3).
//!
//! Here, unlike with deliveries, everything is checked at the door: the application is the one that
//! can mend a mistake, and hears of every fault at once. Readings of usage and cost become rows and
//! no job: the schedules pick them up.

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

use self::batch::{Batch, Refusal};
use super::answer::{refusal, unavailable};
use super::door::Door;
use super::{body, token};

/// Ten thousand changes of a usual size.
const BODY_LIMIT: usize = 8 << 20;
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Larger bodies are parsed where they keep no delivery waiting.
const PARSED_AT_ONCE: usize = 32 << 10;

pub(super) async fn receive(State(door): State<Arc<Door>>, request: Request) -> Response {
    let answer = answer(&door, request).await;
    metrics::counter!("polar_jobs_changes_requests_total", "status" => answer.status().as_str().to_owned())
        .increment(1);
    answer
}

async fn answer(door: &Door, request: Request) -> Response {
    let Some(token) = &door.app_token else {
        body::refuse(request).await;
        return unavailable("no application token is configured: set APP_TOKEN");
    };
    if !token::is_borne(request.headers(), token) {
        body::refuse(request).await;
        return unauthorized();
    }
    let bytes = match body::read(request.into_body(), BODY_LIMIT, BODY_TIMEOUT).await {
        Ok(bytes) => bytes,
        Err(unreadable) => return unreadable.answer(),
    };
    match parse(bytes).await {
        Ok(batch) => store(door, batch).await,
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

async fn store(door: &Door, batch: Batch) -> Response {
    let given = batch.len();
    match store::store(door.acceptor.alone(), &batch).await {
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
