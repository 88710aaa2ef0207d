//! What operators and machines ask: does it run, can it work, how is it doing. Served by the
//! ingress, and by workers where `METRICS_BIND` says so.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sqlx::PgPool;
use tokio::time::timeout;

use super::answer::{fixed, refusal};
use crate::migrate::migrator;

/// A load balancer asks every few seconds; a database that needs longer than this is not ready.
const READY_TIMEOUT: Duration = Duration::from_secs(1);
const PROMETHEUS: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Renders the process's metrics in Prometheus' text format.
#[derive(Clone)]
pub struct Metrics(Arc<dyn Fn() -> String + Send + Sync>);

impl Metrics {
    /// Metrics as `render` gives them, such as `PrometheusHandle::render`.
    pub fn new(render: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self(Arc::new(render))
    }

    /// No metrics: the route answers with an empty page.
    #[must_use]
    pub fn none() -> Self {
        Self::new(String::new)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// Why this process should get no requests now.
#[derive(Debug, thiserror::Error)]
enum NotReady {
    #[error("the database does not answer within 1 s")]
    Silent,
    #[error("the database cannot be reached: {0}")]
    Unreachable(sqlx::Error),
    #[error("the database has no schema: run `polar-jobs migrate`")]
    NoSchema,
    #[error(
        "the schema is at version {found}, this program needs {needed}: run `polar-jobs migrate`"
    )]
    Behind { found: i64, needed: i64 },
}

/// `/health`, `/ready` and `/metrics`.
pub fn operations_router(pool: PgPool, metrics: Metrics) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready).with_state(pool))
        .route("/metrics", get(render).with_state(metrics))
}

async fn health() -> Response {
    fixed(StatusCode::OK, r#"{"status":"ok"}"#)
}

async fn ready(State(pool): State<PgPool>) -> Response {
    match timeout(READY_TIMEOUT, check(&pool))
        .await
        .unwrap_or(Err(NotReady::Silent))
    {
        Ok(()) => fixed(StatusCode::OK, r#"{"status":"ready"}"#),
        Err(reason) => refusal(StatusCode::SERVICE_UNAVAILABLE, &reason.to_string()),
    }
}

async fn render(State(metrics): State<Metrics>) -> Response {
    ([(header::CONTENT_TYPE, PROMETHEUS)], metrics.0()).into_response()
}

/// A newer schema is fine: migrations only expand what a running release uses.
async fn check(pool: &PgPool) -> Result<(), NotReady> {
    let needed = migrator()
        .iter()
        .map(|migration| migration.version)
        .max()
        .unwrap_or_default();
    let found = newest_version(pool).await?;
    if found < needed {
        Err(NotReady::Behind { found, needed })
    } else {
        Ok(())
    }
}

/// The newest migration applied. The table is the migrator's own, so the statement is not one of
/// those checked against the schema at compile time.
async fn newest_version(pool: &PgPool) -> Result<i64, NotReady> {
    sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM polar_jobs._migrations WHERE success")
        .fetch_one(pool)
        .await
        .map_err(|error| {
            match error
                .as_database_error()
                .and_then(|database| database.code())
            {
                Some(code) if code == "42P01" || code == "3F000" => NotReady::NoSchema,
                _ => NotReady::Unreachable(error),
            }
        })
}
