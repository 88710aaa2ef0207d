//! The accept loop of the HTTP server: one of our own, because a plain one has no time limits for clients that
//! send or read slowly, no bound on how many are let in, and no stop that finishes what is in flight.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use metrics::gauge;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::ServiceExt;

use super::write_timeout::WriteTimeout;
use crate::api::PeerAddress;

/// A client must send a request's head within this time, an idle connection its next one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a stop waits for requests in flight. Each is bounded on its own; this bounds them all.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Of a connection, for the head of a request, a piece of its body, and an answer.
const BUFFER: usize = 16 << 10;

/// What clients may take of the process.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections open at once; further ones wait in the listener's backlog.
    pub connections: usize,
    /// Bytes of incomplete bodies of deliveries, all together, and of changes; beyond this senders are
    /// answered 503.
    pub body_bytes: usize,
    /// A client that reads nothing of its answer for this long is disconnected.
    pub write_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            body_bytes: 64 << 20,
            write_timeout: Duration::from_secs(10),
        }
    }
}

/// Serves a router until `shutdown` is done; then takes no more, finishes what is in flight, answers it, and returns.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) {
    let mut shutdown = pin!(shutdown);
    let open = GracefulShutdown::new();
    let permits = Arc::new(Semaphore::new(limits.connections));
    let mut protocol = http1::Builder::new();
    protocol
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER);
    loop {
        let (stream, peer, open_connection) = tokio::select! {
            biased;
            () = &mut shutdown => break,
            arrived = next_connection(&listener, &permits) => match arrived {
                Some(arrived) => arrived,
                None => continue,
            },
        };
        let stream = TokioIo::new(WriteTimeout::new(stream, limits.write_timeout));
        let routed = router
            .clone()
            .map_request(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(PeerAddress(peer));
                request
            });
        let service = TowerToHyperService::new(routed);
        let connection = open.watch(protocol.serve_connection(stream, service));
        tokio::spawn(async move {
            // A client that goes away is no event worth a line; what it did not send is not stored.
            let _gone = connection.await;
            drop(open_connection);
        });
    }
    drop(listener);
    if tokio::time::timeout(STOP_TIMEOUT, open.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("stopped with requests still in flight; they were not acknowledged");
    }
}

/// One of the connections that may be open, counted while it is.
struct OpenConnection(#[expect(dead_code, reason = "held, never read")] OwnedSemaphorePermit);

impl OpenConnection {
    fn count(permit: OwnedSemaphorePermit) -> Self {
        gauge!("polar_jobs_http_connections").increment(1);
        Self(permit)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        gauge!("polar_jobs_http_connections").decrement(1);
    }
}

/// The next client, once another connection may be open.
async fn next_connection(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> Option<(TcpStream, IpAddr, OpenConnection)> {
    let permit = Arc::clone(permits).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            // An answer is one small packet; waiting for more to send with it only costs time.
            let _best_effort = stream.set_nodelay(true);
            Some((stream, peer.ip(), OpenConnection::count(permit)))
        }
        Err(error) => {
            // Out of file descriptors, most likely: it passes when connections close.
            tracing::warn!(%error, "cannot take a connection");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}
