//! The HTTP server: an accept loop of our own, because a front door needs what a plain one lacks:
//! time limits for slow clients, a bound on how many are let in, and a stop that finishes what is
//! in flight.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::post;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use polar::webhook::Verifier;
use secrecy::{ExposeSecret, SecretString};
use sqlx::PgPool;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::accept::Acceptor;
use super::door::Door;
use super::health::{Metrics, operations_router};
use super::{changes, fallback, webhook};
use crate::queue::connect::QueueDatabase;

/// A client must send a request's head within this time, an idle connection its next one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a stop waits for requests in flight. Each is bounded on its own; this is the belt.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections open at once; further ones wait in the listener's backlog.
const CONNECTIONS: usize = 4096;

/// What the front door needs to know.
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
    /// The same database, for the one writer of deliveries and its notifier.
    pub database: QueueDatabase,
    /// What `/metrics` says.
    pub metrics: Metrics,
}

/// The port could not be had.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {address}: {source}; is another program there? PORT and BIND choose another address"
)]
pub struct BindError {
    /// Where we wanted to listen.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

/// The front door, bound but not yet open: clients connect and wait until [`Ingress::serve`].
pub struct Ingress {
    listener: TcpListener,
    address: SocketAddr,
    router: Router,
}

impl Ingress {
    /// Takes the address. Must be called within a tokio runtime: it starts the writer of deliveries.
    ///
    /// # Errors
    /// If the address is taken or not ours.
    pub async fn bind(settings: IngressSettings) -> Result<Self, BindError> {
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
        let door = Door {
            verifier: Verifier::new(webhook_secrets),
            app_token: app_token.filter(|token| !token.expose_secret().is_empty()),
            acceptor: Acceptor::start(pool.clone(), &database),
        };
        let router = Router::new()
            .route("/integrations/polar/webhook", post(webhook::receive))
            .route("/changes", post(changes::receive))
            .with_state(Arc::new(door))
            .merge(operations_router(pool, metrics))
            .fallback(fallback::not_found)
            .method_not_allowed_fallback(fallback::wrong_method);
        Ok(Self {
            listener,
            address,
            router,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` is done; then takes no more, finishes what is in flight, answers
    /// it, and returns.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) {
        serve(self.listener, self.router, shutdown).await;
    }
}

/// Serves a router with the limits of the front door until `shutdown` is done.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()>,
) {
    let mut shutdown = pin!(shutdown);
    let open = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut protocol = http1::Builder::new();
    protocol
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT);
    loop {
        let (stream, place) = tokio::select! {
            biased;
            () = &mut shutdown => break,
            arrived = next_connection(&listener, &places) => match arrived {
                Some(arrived) => arrived,
                None => continue,
            },
        };
        let service = TowerToHyperService::new(router.clone());
        let connection = open.watch(protocol.serve_connection(TokioIo::new(stream), service));
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

type Place = tokio::sync::OwnedSemaphorePermit;

/// The next client, once there is a place for it.
async fn next_connection(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, Place)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => {
            // An answer is one small packet; waiting for more to send with it only costs time.
            let _best_effort = stream.set_nodelay(true);
            Some((stream, place))
        }
        Err(error) => {
            // Out of file descriptors, most likely: it passes when connections close.
            tracing::warn!(%error, "cannot take a connection");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}
