//! Reads a request's body, bounded in size, in time and in memory, so that a slow or endless sender
//! holds neither memory nor a connection for long.
//!
//! Whoever sends a delivery is known only when its whole body has been read. So the memory of all bodies
//! that are not complete is drawn from one budget for the process: when it is spent, senders are asked
//! to come again. A body that arrives in one piece costs nothing of it, because the piece is a part of
//! its connection's own small buffer; real deliveries mostly do, and so get through beside a flood of
//! halves.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::Response;
use http_body_util::BodyExt;
use metrics::gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::answer::{refusal, unavailable};

/// How much of an unwanted body is read and thrown away, so that a sender that writes before it
/// reads still gets to see its answer.
const DISCARDED: usize = 16 << 20;
/// And for how long: what is refused unread must not hold a connection longer than what is taken.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a body could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the body is larger than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("the body did not arrive in time")]
    TooSlow,
    #[error("the body broke off")]
    BrokenOff,
    #[error("too many bodies are being received")]
    NoMemory,
}

impl BodyError {
    pub(super) fn answer(self) -> Response {
        let status = match self {
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::BrokenOff => StatusCode::BAD_REQUEST,
            Self::NoMemory => return unavailable(&self.to_string()),
        };
        refusal(status, &self.to_string())
    }

    /// One word for a metric.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too_large",
            Self::TooSlow => "too_slow",
            Self::BrokenOff => "broken_off",
            Self::NoMemory => "no_memory",
        }
    }
}

/// Memory for bodies, in bytes.
#[derive(Clone)]
pub(super) struct BodyBudget {
    route: &'static str,
    free: Arc<Semaphore>,
}

impl BodyBudget {
    pub(super) fn new(route: &'static str, bytes: usize) -> Self {
        Self {
            route,
            free: Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))),
        }
    }

    fn reservation(&self) -> Reservation {
        Reservation {
            route: self.route,
            budget: Arc::clone(&self.free),
            held: None,
            bytes: 0,
        }
    }
}

/// What one body holds of the budget; given back when dropped.
struct Reservation {
    route: &'static str,
    budget: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
    bytes: u32,
}

impl Reservation {
    /// Never waits: a sender that waited would hold what others wait for.
    fn grow(&mut self, bytes: usize) -> Result<(), BodyError> {
        let bytes = u32::try_from(bytes).map_err(|_| BodyError::NoMemory)?;
        let permit = Arc::clone(&self.budget)
            .try_acquire_many_owned(bytes)
            .map_err(|_| BodyError::NoMemory)?;
        match &mut self.held {
            Some(held) => held.merge(permit),
            None => self.held = Some(permit),
        }
        self.bytes += bytes;
        gauge!("polar_jobs_ingress_body_bytes", "route" => self.route).increment(f64::from(bytes));
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.bytes > 0 {
            gauge!("polar_jobs_ingress_body_bytes", "route" => self.route)
                .decrement(f64::from(self.bytes));
        }
    }
}

/// A whole body. Its memory counts as used until this is dropped.
pub(super) struct Received {
    pub(super) bytes: Bytes,
    _memory: Reservation,
}

/// Reads the whole body, of at most `limit` bytes, within the given time.
pub(super) async fn read(
    body: Body,
    limit: usize,
    within: Duration,
    budget: &BodyBudget,
) -> Result<Received, BodyError> {
    timeout(within, collect(body, limit, budget))
        .await
        .unwrap_or(Err(BodyError::TooSlow))
}

async fn collect(mut body: Body, limit: usize, budget: &BodyBudget) -> Result<Received, BodyError> {
    let mut memory = budget.reservation();
    // Most bodies come in one piece, which is then not copied.
    let Some(first) = next(&mut body).await? else {
        return Ok(Received {
            bytes: Bytes::new(),
            _memory: memory,
        });
    };
    if body.is_end_stream() && first.len() <= limit {
        return Ok(Received {
            bytes: first,
            _memory: memory,
        });
    }
    let mut whole = Vec::new();
    let mut piece = Some(first);
    while let Some(bytes) = piece {
        if let Err(error) = append(&mut whole, &bytes, limit, &mut memory) {
            drop((whole, memory));
            discard(body).await;
            return Err(error);
        }
        piece = next(&mut body).await?;
    }
    Ok(Received {
        bytes: whole.into(),
        _memory: memory,
    })
}

/// Doubles the room where it is too small, within what the budget gives.
fn append(
    whole: &mut Vec<u8>,
    bytes: &[u8],
    limit: usize,
    memory: &mut Reservation,
) -> Result<(), BodyError> {
    let needed = whole.len() + bytes.len();
    if needed > limit {
        return Err(BodyError::TooLarge { limit });
    }
    if needed > whole.capacity() {
        let room = (needed * 2).min(limit);
        memory.grow(room - whole.capacity())?;
        whole.reserve_exact(room - whole.len());
    }
    whole.extend_from_slice(bytes);
    Ok(())
}

async fn next(body: &mut Body) -> Result<Option<Bytes>, BodyError> {
    while let Some(frame) = body.frame().await {
        // Trailers are no part of what is signed.
        if let Ok(bytes) = frame.map_err(|_| BodyError::BrokenOff)?.into_data() {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

/// Throws the body of a refused request away. Closing on somebody who still writes resets the
/// connection, and the answer is lost with it. Who asks before sending gets the answer at once.
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
