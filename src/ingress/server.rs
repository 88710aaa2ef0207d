//! How the ingress is put together: its address, its routes and what they share, and what runs beside them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::routing::post;
use jobs::WEBHOOK_ROUTE;
use polar::webhook::Verifier;
use secrecy::{ExposeSecret, SecretString};
use sqlx::PgPool;
use tokio::net::TcpListener;

use super::accept::Acceptor;
use super::accept_loop::{self, Limits};
use super::body::BodyBudget;
use super::health::{MetricsPage, operations_router};
use super::readiness::connection_of_its_own;
use super::refused::RefusedDeliveries;
use super::state::IngressState;
use super::{changes, fallback, webhook};
use crate::queue::connect::QueueDatabase;

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
    pub metrics: MetricsPage,
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
            () = accept_loop::serve(self.listener, self.router, self.limits, shutdown) => {}
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
    accept_loop::serve(listener, router, Limits::default(), shutdown).await;
}
