//! `polar-jobs ingress`

use std::net::SocketAddr;

use anyhow::Context;
use clap::Args;

use super::signals::Stop;
use super::{Exit, Failure, Surroundings, connect};
use crate::ingress::{self, Ingress, IngressSettings};
use crate::telemetry::Metrics;

/// Connections that write what came in: a few share the commits of thousands of clients.
const CONNECTIONS: u32 = 8;

/// What the front door may be told.
#[derive(Args)]
pub(super) struct Arguments {
    /// The port to listen on, instead of PORT
    #[arg(long)]
    port: Option<u16>,
}

pub(super) async fn run(arguments: Arguments, surroundings: &Surroundings) -> Result<Exit, Failure> {
    let stop = Stop::on_signals()?;
    let config = &surroundings.config;
    let database = config.database()?;
    let metrics = Metrics::install().context("metrics cannot be recorded")?;
    let page = metrics.clone();
    let settings = IngressSettings {
        bind: SocketAddr::new(config.http.bind, arguments.port.unwrap_or(config.http.port)),
        webhook_secrets: config.polar.webhook_secrets.clone(),
        app_token: config.http.app_token.clone(),
        pool: connect::lazy_pool(database, CONNECTIONS),
        database: connect::queue_database(database)?,
        metrics: ingress::Metrics::new(move || page.render()),
    };
    let door = Ingress::bind(settings).await.map_err(anyhow::Error::from)?;
    tracing::info!(address = %door.local_addr(), "the front door is open");
    let kept = tokio::spawn(metrics.keep());
    door.serve(stop.requested()).await;
    kept.abort();
    tracing::info!("the front door is closed");
    Ok(Exit::Done)
}
