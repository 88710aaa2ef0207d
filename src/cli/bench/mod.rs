//! `polar-jobs bench …`: measures in a database of its own, which is dropped whatever happens.

mod scratch;

use std::str::FromStr;

use anyhow::Context;
use clap::{Args, Subcommand};
use futures::FutureExt;
use serde_json::Value;
use sqlx::postgres::PgConnectOptions;

use super::signals::Stop;
use super::{AppContext, Exit, Failure, output};
use crate::bench::{drain, enqueue, ingress, latency, metering, reference};
use scratch::Scratch;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
    /// Measure the bare statements of a queue in the same run as well, and print which share of them was reached
    #[arg(long, global = true)]
    reference: bool,
}

#[derive(Subcommand)]
enum What {
    /// Write small jobs, each its own commit
    Enqueue(enqueue::Arguments),
    /// Run no-op jobs that were enqueued beforehand
    Drain(drain::Arguments),
    /// From a job's commit to the start of its handler, beside an idle worker
    Latency(latency::Arguments),
    /// Signed deliveries of 2 KiB over HTTP
    Ingress(ingress::Arguments),
    /// Record usage, close one window over it, and report it to a local Polar
    Metering(metering::Arguments),
}

pub(super) async fn run(arguments: Arguments, app: &AppContext) -> Result<Exit, Failure> {
    let stop = Stop::on_signals()?;
    let scratch = Scratch::make(app.config.database.as_ref()).await?;
    // Whatever comes of it, the database goes: also after a failure or a signal.
    let measured = tokio::select! {
        measured = measure(scratch.url(), arguments) => Some(measured),
        () = stop.requested() => None,
    };
    scratch.remove().await?;
    match measured {
        Some(lines) => {
            for line in lines.context("the measurement failed")? {
                output::json(&line)?;
            }
            Ok(Exit::Done)
        }
        None => Err(Failure::failed("stopped before there was a result")),
    }
}

/// The line of the measurement, then those of its reference.
async fn measure(url: &str, arguments: Arguments) -> anyhow::Result<Vec<Value>> {
    crate::migrate::run_url(url).await?;
    let options = PgConnectOptions::from_str(url)?;
    let (measured, limit) = match arguments.what {
        What::Enqueue(what) => {
            let measured = enqueue::run(url, what).await?;
            (measured, Some(reference::enqueue(&options, what).boxed()))
        }
        What::Drain(what) => {
            let measured = drain::run(url, what).await?;
            (measured, Some(reference::drain(&options, what).boxed()))
        }
        What::Latency(what) => {
            let measured = latency::run(url, what).await?;
            (measured, Some(reference::latency(&options, what).boxed()))
        }
        What::Ingress(what) => {
            let measured = ingress::run(url, what).await?;
            (measured, Some(reference::ingress(&options, what).boxed()))
        }
        What::Metering(what) => (metering::run(url, what).await?, None),
    };
    let limits = match limit.filter(|_| arguments.reference) {
        Some(limit) => limit.await?,
        None => Vec::new(),
    };
    let ratios: Vec<Value> = limits.iter().map(|limit| limit.line(&measured)).collect();
    Ok([vec![measured], ratios].concat())
}
