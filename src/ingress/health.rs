//! What operators and machines ask: does it run, can it work, how is it doing. Served by the
//! ingress, and by workers where `METRICS_BIND` says so.

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sqlx::PgPool;

use super::answer::{fixed, refusal};
use super::readiness::Readiness;

const PROMETHEUS: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Renders the process's metrics in Prometheus' text format.
#[derive(Clone)]
pub struct MetricsPage(Option<Arc<dyn Fn() -> String + Send + Sync>>);

impl MetricsPage {
    /// A page as `render` gives it, such as `PrometheusHandle::render`.
    pub fn new(render: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(render)))
    }

    /// No metrics here: there is no such route.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }
}

impl fmt::Debug for MetricsPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MetricsPage")
    }
}

/// `/health`, `/ready` and, where there are metrics, `/metrics`.
pub fn operations_router(pool: PgPool, metrics: MetricsPage) -> Router {
    let router = Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready).with_state(Readiness::of(pool)));
    match metrics.0 {
        Some(render) => router.route(
            "/metrics",
            get(async move || ([(header::CONTENT_TYPE, PROMETHEUS)], render()).into_response()),
        ),
        None => router,
    }
}

async fn health() -> Response {
    fixed(StatusCode::OK, r#"{"status":"ok"}"#)
}

async fn ready(State(readiness): State<Readiness>) -> Response {
    match readiness.check().await {
        Ok(()) => fixed(StatusCode::OK, r#"{"status":"ready"}"#),
        Err(reason) => refusal(StatusCode::SERVICE_UNAVAILABLE, &reason.to_string()),
    }
}
