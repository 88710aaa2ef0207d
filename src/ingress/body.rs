//! Reads a request's body, bounded in size and in time, so that a slow or endless sender holds
//! neither memory nor a place for long.

use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::Response;
use http_body_util::BodyExt;
use tokio::time::timeout;

use super::answer::refusal;

/// How much of an unwanted body is read and thrown away, so that a sender that writes before it
/// reads still gets to see its answer.
const DISCARDED: usize = 16 << 20;
/// And for how long: what is refused unread must not hold a place longer than what is taken.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a body could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("the body is larger than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("the body did not arrive in time")]
    TooSlow,
    #[error("the body broke off")]
    BrokenOff,
}

impl Unreadable {
    pub(super) fn answer(self) -> Response {
        let status = match self {
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::BrokenOff => StatusCode::BAD_REQUEST,
        };
        refusal(status, &self.to_string())
    }
}

/// The whole body, of at most `limit` bytes, within the given time.
pub(super) async fn read(body: Body, limit: usize, within: Duration) -> Result<Bytes, Unreadable> {
    timeout(within, collect(body, limit))
        .await
        .unwrap_or(Err(Unreadable::TooSlow))
}

async fn collect(mut body: Body, limit: usize) -> Result<Bytes, Unreadable> {
    // Most bodies come in one piece, which is then not copied.
    let Some(first) = next(&mut body).await? else {
        return Ok(Bytes::new());
    };
    if body.is_end_stream() && first.len() <= limit {
        return Ok(first);
    }
    let mut whole = Vec::with_capacity(first.len().min(limit) * 2);
    let mut piece = Some(first);
    while let Some(bytes) = piece {
        if whole.len() + bytes.len() > limit {
            discard(body).await;
            return Err(Unreadable::TooLarge { limit });
        }
        whole.extend_from_slice(&bytes);
        piece = next(&mut body).await?;
    }
    Ok(whole.into())
}

async fn next(body: &mut Body) -> Result<Option<Bytes>, Unreadable> {
    while let Some(frame) = body.frame().await {
        // Trailers are no part of what is signed.
        if let Ok(bytes) = frame.map_err(|_| Unreadable::BrokenOff)?.into_data() {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

/// Throws the body of a refused request away. Closing on somebody who still writes resets the
/// connection, and the answer is lost with it. Who asks before sending is told the answer at once.
pub(super) async fn refuse(request: Request) {
    if request.headers().contains_key(header::EXPECT) {
        return;
    }
    let _too_slow = timeout(DISCARD_TIMEOUT, discard(request.into_body())).await;
}

async fn discard(mut body: Body) {
    let mut read = 0;
    while let Ok(Some(bytes)) = next(&mut body).await {
        read += bytes.len();
        if read > DISCARDED {
            return;
        }
    }
}
