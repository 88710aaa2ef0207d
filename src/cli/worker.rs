//! `polar-jobs worker`

use std::str::FromStr;

use anyhow::Context;
use clap::Args;
use sqlx::PgPool;

use super::process::{Process, Work};
use super::signals::Stop;
use super::{AppContext, Exit, Failure, connect};
use crate::config::Config;
use crate::queue::connect::ConnectionBudget;
use crate::queue::table;
use crate::telemetry::Metrics;
use crate::worker::QueueSlots;

/// Arguments of `worker`.
#[derive(Args)]
pub(super) struct Arguments {
    /// Serve only this queue, with so many jobs at once, such as mail=5; may be given several times
    ///
    /// Without it a worker serves every queue. In all it never runs more than `WORKER_SLOTS` jobs at once.
    #[arg(long = "queue", value_name = "NAME=SLOTS")]
    queues: Vec<Wanted>,
    /// Exit with 0 as soon as nothing is runnable
    #[arg(long)]
    drain: bool,
}

/// A queue as it is written on the command line.
#[derive(Clone)]
pub(super) struct Wanted {
    queue: String,
    slots: Option<usize>,
}

impl FromStr for Wanted {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (queue, slots) = match text.split_once('=') {
            None => (text, None),
            Some((queue, slots)) => {
                let slots = slots
                    .parse()
                    .ok()
                    .filter(|slots| (1..=10_000).contains(slots));
                (
                    queue,
                    Some(slots.ok_or("SLOTS is a number from 1 to 10000")?),
                )
            }
        };
        if queue.is_empty() {
            Err("the queue has no name")
        } else {
            Ok(Self {
                queue: queue.to_owned(),
                slots,
            })
        }
    }
}

pub(super) async fn run(arguments: Arguments, app: &AppContext) -> Result<Exit, Failure> {
    let stop = Stop::on_signals()?;
    let config = &app.config;
    let database = config.database()?;
    let pool = connect::pool(
        database,
        ConnectionBudget::of(config.database_connections).jobs,
    )
    .await?;
    let queues = served(&pool, config, &arguments.queues).await?;
    if config.polar.billing.is_none() {
        tracing::warn!(
            "billing is off: nothing goes to Polar until POLAR_ACCESS_TOKEN and POLAR_ORGANIZATION_ID are set"
        );
    }
    let metrics = Metrics::install().context("metrics cannot be recorded")?;
    let process = Process::new(app, database, pool, metrics)?;
    process
        .work(
            Work {
                queues,
                drain: arguments.drain,
            },
            &stop,
        )
        .await?;
    Ok(Exit::Done)
}

/// What is asked for, or every queue with the slots that its row or `WORKER_SLOTS` says.
pub(super) async fn served(
    pool: &PgPool,
    config: &Config,
    wanted: &[Wanted],
) -> Result<Vec<QueueSlots>, Failure> {
    let known = table::queues(pool).await?;
    let slots_of = |row: &table::QueueRow| {
        row.slots_per_worker
            .map_or(config.worker_slots as usize, |slots| slots as usize)
    };
    if wanted.is_empty() {
        let all = known.iter().map(|row| QueueSlots {
            queue: row.name.clone(),
            slots: slots_of(row),
        });
        return Ok(all.collect());
    }
    let mut queues: Vec<QueueSlots> = Vec::new();
    for Wanted { queue, slots } in wanted {
        if queues.iter().any(|named| named.queue == *queue) {
            return Err(Failure::usage(format!("the queue {queue} is named twice")));
        }
        let Some(row) = known.iter().find(|row| row.name == *queue) else {
            let names: Vec<&str> = known.iter().map(|row| row.name.as_str()).collect();
            return Err(Failure::usage(format!(
                "there is no queue {queue}; known are {}",
                names.join(", ")
            )));
        };
        queues.push(QueueSlots {
            queue: queue.clone(),
            slots: slots.unwrap_or_else(|| slots_of(row)),
        });
    }
    Ok(queues)
}
