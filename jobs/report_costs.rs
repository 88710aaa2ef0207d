//! Tells Polar what an organization cost us, once.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use polar::{CallClass, Client};
use serde::{Deserialize, Serialize};

use crate::contract::{CatchUp, Retry, Scheduled, priority};
use crate::ingest::{self, SpanBatch};
use crate::mirror::costs::{self, WaitingCost};
use crate::{Context, Done, Error, Job, NewJob};

/// Readings taken at once: with their roots about one request.
const READINGS: i64 = 450;
/// Rounds of one run; what is left follows as a job of its own.
const ROUNDS: usize = 20;

/// Sends waiting costs (contract 5, polar-domain (g)). A row is settled once Polar accounted for
/// all its events; until then it is sent again, identically.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReportCosts {}

impl Job for ReportCosts {
    const KIND: &'static str = "report_costs";
    const PRIORITY: i16 = priority::METERING;
    const TIMEOUT: Duration = Duration::from_secs(180);
    // The next tick would find a long wait and add nothing to it.
    const RETRY: Retry = Retry {
        ceiling: Duration::from_secs(300),
        ..Retry::DEFAULT
    };

    fn unique_key(&self) -> Option<String> {
        Some(Self::KIND.to_owned())
    }

    // Two at once would be right as well, but send everything twice.
    fn ordering_key(&self) -> Option<String> {
        Some(Self::KIND.to_owned())
    }

    async fn run(self, context: &Context) -> Result<Done, Error> {
        let Some(polar) = &context.polar else {
            return Ok(Done::ignored(
                "billing is not configured; costs wait until it is",
            ));
        };
        let polar = polar.with_class(CallClass::Metering);
        let self_organization = context.settings.self_organization;
        costs::skip(&context.pool, self_organization).await?;
        let mut last = 0;
        for _ in 0..ROUNDS {
            let readings = costs::waiting(&context.pool, self_organization, last, READINGS).await?;
            let Some(newest) = readings.last() else {
                return Ok(Done::applied());
            };
            last = newest.id;
            report(context, &polar, &readings).await?;
        }
        Ok(Done::applied().then([NewJob::of(&Self {})]))
    }
}

impl Scheduled for ReportCosts {
    const CRON: &'static str = "* * * * *";
    const CATCH_UP: CatchUp = CatchUp::Latest;

    fn at(_: DateTime<Utc>) -> Self {
        Self {}
    }
}

async fn report(context: &Context, polar: &Client, readings: &[WaitingCost]) -> Result<(), Error> {
    let batches = ingest::pack(readings).map_err(|(position, error)| {
        Error::Retry(format!(
            "cost {}: {error}; the table should have refused it",
            readings[position].id
        ))
    })?;
    let mut ledger = Ledger::of(&batches);
    let mut failure = None;
    for batch in &batches {
        let sent = ingest::ingest(polar, &batch.events).await;
        ledger.note(batch, &sent);
        if sent.failure.is_some() {
            failure = sent.failure;
            break;
        }
    }
    let (settled, refused) = ledger.verdicts(readings);
    costs::settle(&context.pool, &settled).await?;
    metrics::counter!("polar_jobs_costs_reported_total").increment(settled.len() as u64);
    if !refused.is_empty() {
        metrics::counter!("polar_jobs_costs_refused_total").increment(refused.len() as u64);
        for (id, reason) in &refused {
            tracing::error!(cost = id, reason, "Polar refused a cost");
        }
        costs::refuse(&context.pool, &refused).await?;
    }
    failure.map_or(Ok(()), |error| Err(error.into()))
}

/// How many events of each reading are still undecided, and which readings were refused.
struct Ledger {
    open: BTreeMap<usize, usize>,
    refused: BTreeMap<usize, String>,
}

impl Ledger {
    fn of(batches: &[SpanBatch]) -> Self {
        let mut open = BTreeMap::new();
        for position in batches
            .iter()
            .flat_map(|batch| batch.readings.iter().flatten())
        {
            *open.entry(*position).or_default() += 1;
        }
        Self {
            open,
            refused: BTreeMap::new(),
        }
    }

    fn note(&mut self, batch: &SpanBatch, sent: &ingest::Sent) {
        for event in sent.answered.iter().flat_map(|(events, _)| events) {
            for reading in &batch.readings[*event] {
                self.open.entry(*reading).and_modify(|events| *events -= 1);
            }
        }
        for (event, reason) in &sent.refused {
            for reading in &batch.readings[*event] {
                self.refused.insert(*reading, reason.clone());
            }
        }
    }

    /// Rows that are done, and rows that Polar will not take.
    fn verdicts(self, readings: &[WaitingCost]) -> (Vec<i64>, Vec<(i64, String)>) {
        let settled = self
            .open
            .iter()
            .filter(|&(_, &events)| events == 0)
            .map(|(&reading, _)| readings[reading].id);
        let settled = settled.collect();
        let refused = self
            .refused
            .into_iter()
            .map(|(reading, reason)| (readings[reading].id, reason))
            .collect();
        (settled, refused)
    }
}
