//! `polar-jobs ingress`

use std::net::SocketAddr;

use anyhow::Context;
use axum::Router;
use clap::Args;
use polar::ProductId;
use sqlx::PgPool;

use super::clients::api_client;
use super::operations_page::{OperationsPage, metrics_page};
use super::signals::Stop;
use super::{AppContext, Exit, Failure, connect, pooler};
use crate::api::{self, ApiSettings};
use crate::config::{Config, DatabaseUrl};
use crate::ingress::{Ingress, IngressSettings, MetricsPage};
use crate::queue::connect::{ConnectionBudget, Pooler};
use crate::telemetry::catalogue::{self, Recorder};
use crate::telemetry::{Metrics, fleet};

/// Arguments of `ingress`.
#[derive(Args)]
pub(super) struct Arguments {
    /// The port to listen on, instead of the setting PORT (8080)
    #[arg(long)]
    port: Option<u16>,
}

pub(super) async fn run(arguments: Arguments, app: &AppContext) -> Result<Exit, Failure> {
    let stop = Stop::on_signals()?;
    let config = &app.config;
    let database = config.database()?;
    let metrics = Metrics::install().context("metrics cannot be recorded")?;
    catalogue::start_at_zero(Recorder::Ingress);
    pooler::prove(database).await?;
    let page = OperationsPage::bind(config).await?;
    let address = SocketAddr::new(config.http.bind, arguments.port.unwrap_or(config.http.port));
    let other_address = "--port, or the settings PORT and BIND, choose another address";
    let ingress = bind(config, database, address, &metrics, other_address).await?;
    tracing::info!(address = %ingress.local_addr(), "the ingress listens");
    tell_what_is_not_configured(config);
    let readiness = ingress.readiness_pool();
    let beside = [
        Some(tokio::spawn(fleet::watch(ingress.pool()))),
        page.map(|page| tokio::spawn(page.serve(readiness, metrics_page(&metrics), stop.wait()))),
        Some(tokio::spawn(metrics.keep())),
    ];
    ingress.serve(stop.requested()).await;
    beside.iter().flatten().for_each(|task| task.abort());
    tracing::info!("the ingress stopped");
    Ok(Exit::Done)
}

/// Nobody should have to send something to learn that it cannot be taken.
fn tell_what_is_not_configured(config: &Config) {
    if config.polar.webhook_secrets.is_empty() {
        tracing::warn!("deliveries are answered 503 until POLAR_WEBHOOK_SECRET is set");
    }
    if config.http.app_token.is_none() {
        tracing::info!("POST /changes is answered 503 until APP_TOKEN is set");
    }
    if config.http.app_token.is_none() && config.app.session_secret.is_none() {
        tracing::info!(
            "/v1/organizations is answered 503 until APP_TOKEN or APP_SESSION_SECRET is set"
        );
    }
}

/// The ingress, bound and not yet serving. The database may still be away: then it answers 503. `other_address` says what
/// to do where the address is taken.
pub(super) async fn bind(
    config: &Config,
    database: &DatabaseUrl,
    address: SocketAddr,
    metrics: &Metrics,
    other_address: &str,
) -> Result<Ingress, Failure> {
    let settings = IngressSettings {
        bind: address,
        webhook_secrets: config.polar.webhook_secrets.clone(),
        app_token: config.http.app_token.clone(),
        pool: connect::ingress_pool(
            database,
            ConnectionBudget::ingress_pool(config.database_connections),
        ),
        database: connect::queue_database(database)?,
        metrics: match config.http.metrics_bind {
            // Moved off the public port.
            Some(_) => MetricsPage::none(),
            None => metrics_page(metrics),
        },
    };
    let api = organizations_api(config, settings.pool.clone(), settings.database.pooler)?;
    let ingress = Ingress::bind(settings)
        .await
        .map_err(|error| Failure::failed(format!("{error}; {other_address}")))?;
    Ok(ingress.with_routes(api))
}

/// The organizations API, on the connections of the ingress.
fn organizations_api(config: &Config, pool: PgPool, pooler: Pooler) -> Result<Router, Failure> {
    let polar = &config.polar;
    Ok(api::router(ApiSettings {
        polar: api_client(polar, &pool)?,
        pool,
        pooler,
        app_token: config.http.app_token.clone(),
        app: config.app.clone(),
        self_organization: config.self_organization(),
        scale_product: polar.scale_product.map(ProductId),
        platform_fees: config.platform_fees,
        early_fees: config.early_fees,
    }))
}
