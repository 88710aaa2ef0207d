//! The page for operators: health, readiness and metrics, where `METRICS_BIND` says.

use anyhow::Context;
use sqlx::PgPool;
use tokio::net::TcpListener;

use super::Failure;
use crate::config::Config;
use crate::ingress::{MetricsPage, operations_router, serve_operations};
use crate::telemetry::Metrics;

/// Where it is served.
pub(crate) struct OperationsPage(TcpListener);

impl OperationsPage {
    /// Takes the address; `None` where none is set.
    pub(crate) async fn bind(config: &Config) -> Result<Option<Self>, Failure> {
        let Some(address) = config.http.metrics_bind else {
            return Ok(None);
        };
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address} (METRICS_BIND)"))?;
        tracing::info!(address = %listener.local_addr()?, "health and metrics are served");
        Ok(Some(Self(listener)))
    }

    /// Serves it until a stop is requested.
    pub(crate) async fn serve(
        self,
        pool: PgPool,
        metrics: MetricsPage,
        stop: impl Future<Output = ()>,
    ) {
        serve_operations(self.0, operations_router(pool, metrics), stop).await;
    }
}

/// The metrics as a page, for whoever serves it.
pub(crate) fn metrics_page(metrics: &Metrics) -> MetricsPage {
    let metrics = metrics.clone();
    MetricsPage::new(move || metrics.render())
}
