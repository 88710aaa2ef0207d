//! The HTTP server: an accept loop of our own, because a plain one has no time limits for clients that
//! send or read slowly, no bound on how many are let in, and no stop that finishes what is in flight.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use axum::routing::post;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use jobs::WEBHOOK_ROUTE;
use metrics::gauge;
use polar::webhook::Verifier;
use secrecy::{ExposeSecret, SecretString};
use sqlx::PgPool;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::ServiceExt;

use super::accept::Acceptor;
use super::body::BodyBudget;
use super::health::{Metrics, operations_router};
use super::readiness::connection_of_its_own;
use super::refused::RefusedDeliveries;
use super::state::IngressState;
use super::write_timeout::WriteTimeout;
use super::{changes, fallback, webhook};
use crate::api::PeerAddress;
use crate::queue::connect::QueueDatabase;

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

/// What the ingress needs to know.
#[derive(Clone)]
pub struct IngressSettings {
    /// Where to listen; port 0 takes a free one.
    pub bind: SocketAddr,
    /// `POLAR_WEBHOOK_SECRET`: all are accepted. None: deliveries are answered 503.
    pub webhook_secrets: Vec<SecretString>,
    /// `APP_TOKEN`. None: changes are answered 503.
    pub app_token: Option<SecretString>,
    /// Connections for changes and for what cannot share a commit.
    pub pool: PgPool,
    /// The same database, for the writer of deliveries and for notifications.
    pub database: QueueDatabase,
    /// What `/metrics` says.
    pub metrics: Metrics,
}

/// The port could not be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}; is another program there?")]
pub struct BindError {
    /// Where we wanted to listen.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

/// The ingress, bound but not yet serving: clients connect and wait until [`Ingress::serve`].
pub struct Ingress {
    listener: TcpListener,
    address: SocketAddr,
    router: Router,
    limits: Limits,
    pool: PgPool,
    readiness_pool: PgPool,
    refused_deliveries: Arc<RefusedDeliveries>,
}

impl Ingress {
    /// Takes the address. Must be called within a tokio runtime: it starts the writer of deliveries.
    ///
    /// # Errors
    /// If the address is taken or not ours.
    pub async fn bind(settings: IngressSettings) -> Result<Self, BindError> {
        Self::bind_with(settings, Limits::default()).await
    }

    /// The same with limits of its own.
    ///
    /// # Errors
    /// As [`Ingress::bind`].
    pub async fn bind_with(settings: IngressSettings, limits: Limits) -> Result<Self, BindError> {
        let IngressSettings {
            bind,
            webhook_secrets,
            app_token,
            pool,
            database,
            metrics,
        } = settings;
        let failed = |source| BindError {
            address: bind,
            source,
        };
        let listener = TcpListener::bind(bind).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        webhook::start_at_zero();
        let readiness_pool = connection_of_its_own(&database);
        let refused_deliveries = Arc::new(RefusedDeliveries::default());
        let state = IngressState {
            verifier: Verifier::new(webhook_secrets),
            app_token: app_token.filter(|token| !token.expose_secret().is_empty()),
            acceptor: Acceptor::start(pool.clone(), &database),
            delivery_bodies: BodyBudget::new("deliveries", limits.body_bytes),
            change_bodies: BodyBudget::new("changes", limits.body_bytes),
            refused_deliveries: Arc::clone(&refused_deliveries),
        };
        let router = Router::new()
            .route(WEBHOOK_ROUTE, post(webhook::receive))
            .route("/changes", post(changes::receive))
            .with_state(Arc::new(state))
            .merge(operations_router(readiness_pool.clone(), metrics))
            .fallback(fallback::not_found)
            .method_not_allowed_fallback(fallback::wrong_method);
        Ok(Self {
            listener,
            address,
            router,
            limits,
            pool,
            readiness_pool,
            refused_deliveries,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The same with further routes.
    #[must_use]
    pub fn with_routes(mut self, routes: Router) -> Self {
        self.router = self.router.merge(routes);
        self
    }

    /// Its connections, for what else the process looks at.
    #[must_use]
    pub fn pool(&self) -> PgPool {
        self.pool.clone()
    }

    /// The one connection on which it looks whether it is ready, for another page that says so.
    #[must_use]
    pub fn readiness_pool(&self) -> PgPool {
        self.readiness_pool.clone()
    }

    /// Serves until `shutdown` is done; then takes no more, finishes what is in flight, answers
    /// it, and returns.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) {
        tokio::select! {
            () = serve(self.listener, self.router, self.limits, shutdown) => {}
            () = self.refused_deliveries.report(&self.pool) => {}
        }
    }
}

/// Serves a router for operators, such as [`operations_router`], with the limits of the ingress until
/// `shutdown` is done.
pub async fn serve_operations(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()>,
) {
    serve(listener, router, Limits::default(), shutdown).await;
}

async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) {
    let mut shutdown = pin!(shutdown);
    let open = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut protocol = http1::Builder::new();
    protocol
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER);
    loop {
        let (stream, peer, place) = tokio::select! {
            biased;
            () = &mut shutdown => break,
            arrived = next_connection(&listener, &places) => match arrived {
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
            drop(place);
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

/// One of the connections that may be open.
struct Place(#[expect(dead_code, reason = "held, never read")] OwnedSemaphorePermit);

impl Place {
    fn taken(permit: OwnedSemaphorePermit) -> Self {
        gauge!("polar_jobs_http_connections").increment(1);
        Self(permit)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        gauge!("polar_jobs_http_connections").decrement(1);
    }
}

/// The next client, once there is a place for it.
async fn next_connection(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, IpAddr, Place)> {
    let permit = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            // An answer is one small packet; waiting for more to send with it only costs time.
            let _best_effort = stream.set_nodelay(true);
            Some((stream, peer.ip(), Place::taken(permit)))
        }
        Err(error) => {
            // Out of file descriptors, most likely: it passes when connections close.
            tracing::warn!(%error, "cannot take a connection");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}
