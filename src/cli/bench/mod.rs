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
use crate::bench::drain::Drain;
use crate::bench::enqueue::Manner;
use crate::bench::ingress::Bodies;
use crate::bench::reference;
use crate::bench::{drain, enqueue, ingress, latency, metering};
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
    Enqueue {
        /// How many jobs
        #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
        jobs: u64,
        /// Clients that write at the same time
        #[arg(long, default_value_t = 16, value_parser = at_least_one)]
        clients: usize,
        /// Write by COPY instead
        #[arg(long)]
        bulk: bool,
    },
    /// Run no-op jobs that were enqueued beforehand
    Drain {
        /// How many jobs
        #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
        jobs: u64,
        /// Slots of the worker
        #[arg(long, default_value_t = 50, value_parser = at_least_one)]
        slots: usize,
        /// Other jobs that wait for a later day
        #[arg(long, default_value_t = 0)]
        waiting: u64,
        /// Other jobs that have ended
        #[arg(long, default_value_t = 0)]
        finished: u64,
        /// Give each job a unique and an ordering key
        #[arg(long)]
        keyed: bool,
    },
    /// From a job's commit to the start of its handler, beside an idle worker
    Latency {
        /// Jobs a second
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        rate: u32,
        /// How long
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
        seconds: u32,
        /// Without notifications, as behind a transaction-mode pooler
        #[arg(long)]
        poll: bool,
    },
    /// Signed deliveries of 2 KiB over HTTP
    Ingress {
        /// Clients that deliver at the same time
        #[arg(long, default_value_t = 64, value_parser = at_least_one)]
        clients: usize,
        /// How long
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
        seconds: u64,
        /// Send deliveries as Polar sends them, of 1 to 10 KiB, instead of 2 KiB each
        #[arg(long)]
        recorded: bool,
        /// People who call the organizations API meanwhile, before a Polar that takes 50 ms
        #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=1000))]
        api_callers: u16,
    },
    /// Record usage, close one window over it, and report it to a local Polar
    Metering {
        /// How many readings
        #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
        rows: u64,
        /// Of how many organizations
        #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=200_000))]
        organizations: u32,
    },
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|number| (1..=10_000).contains(number))
        .ok_or_else(|| "1 to 10000".to_owned())
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
        What::Enqueue {
            jobs,
            clients,
            bulk,
        } => {
            let manner = if bulk { Manner::Bulk } else { Manner::Single };
            let measured = enqueue::run(url, jobs, clients, manner).await?;
            let limit = reference::enqueue(&options, jobs, clients, manner);
            (measured, Some(limit.boxed()))
        }
        What::Drain {
            jobs,
            slots,
            waiting,
            finished,
            keyed,
        } => {
            let what = Drain {
                jobs,
                slots,
                waiting,
                finished,
                keyed,
            };
            let measured = drain::run(url, what).await?;
            let limit = reference::drain(&options, jobs);
            (measured, Some(limit.boxed()))
        }
        What::Latency {
            rate,
            seconds,
            poll,
        } => {
            let measured = latency::run(url, rate, seconds, !poll).await?;
            let limit = reference::latency(&options, rate, seconds);
            (measured, Some(limit.boxed()))
        }
        What::Ingress {
            clients,
            seconds,
            recorded,
            api_callers,
        } => {
            let bodies = if recorded {
                Bodies::Recorded
            } else {
                Bodies::Uniform
            };
            let people = usize::from(api_callers);
            let measured = ingress::run(url, clients, seconds, bodies, people).await?;
            let limit = reference::ingress(&options, clients, seconds, bodies);
            (measured, Some(limit.boxed()))
        }
        What::Metering {
            rows,
            organizations,
        } => (metering::run(url, rows, organizations).await?, None),
    };
    let limits = match limit.filter(|_| arguments.reference) {
        Some(limit) => limit.await?,
        None => Vec::new(),
    };
    let ratios: Vec<Value> = limits.iter().map(|limit| limit.line(&measured)).collect();
    Ok([vec![measured], ratios].concat())
}
