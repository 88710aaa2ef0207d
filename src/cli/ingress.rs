//! `polar-jobs ingress`

use std::net::SocketAddr;

use anyhow::Context;
use clap::Args;

use super::process::page_of;
use super::signals::Stop;
use super::{Exit, Failure, Surroundings, connect, pooler};
use crate::config::{Config, DatabaseUrl};
use crate::ingress::{Ingress, IngressSettings};
use crate::telemetry::Metrics;

/// Connections of the writers of deliveries, beside the pool.
const WRITERS: u32 = 2;

/// What the front door may be told.
#[derive(Args)]
pub(super) struct Arguments {
    /// The port to listen on, instead of PORT
    #[arg(long)]
    port: Option<u16>,
}

pub(super) async fn run(
    arguments: Arguments,
    surroundings: &Surroundings,
) -> Result<Exit, Failure> {
    let stop = Stop::on_signals()?;
    let config = &surroundings.config;
    let metrics = Metrics::install().context("metrics cannot be recorded")?;
    pooler::prove(config.database()?).await?;
    let address = SocketAddr::new(config.http.bind, arguments.port.unwrap_or(config.http.port));
    let door = door(config, config.database()?, address, &metrics).await?;
    tracing::info!(address = %door.local_addr(), "the front door is open");
    tell_what_stays_shut(config);
    let kept = tokio::spawn(metrics.keep());
    door.serve(stop.requested()).await;
    kept.abort();
    tracing::info!("the front door is closed");
    Ok(Exit::Done)
}

/// Nobody should have to send something to learn that it cannot be taken.
fn tell_what_stays_shut(config: &Config) {
    if config.polar.webhook_secrets.is_empty() {
        tracing::warn!("deliveries are answered 503 until POLAR_WEBHOOK_SECRET is set");
    }
    if config.http.app_token.is_none() {
        tracing::info!("POST /changes is answered 503 until APP_TOKEN is set");
    }
}

/// The front door, bound and not yet open. The database may still be away: then it answers 503.
pub(super) async fn door(
    config: &Config,
    database: &DatabaseUrl,
    address: SocketAddr,
    metrics: &Metrics,
) -> Result<Ingress, Failure> {
    let settings = IngressSettings {
        bind: address,
        webhook_secrets: config.polar.webhook_secrets.clone(),
        app_token: config.http.app_token.clone(),
        pool: connect::lazy_pool(database, config.database_connections - WRITERS),
        database: connect::queue_database(database)?,
        metrics: page_of(metrics),
    };
    Ok(Ingress::bind(settings).await.map_err(anyhow::Error::from)?)
}
