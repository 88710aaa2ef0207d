//! Tells Polar what an organization cost us, once.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use polar::{CallClass, Client, Receipt};
use serde::{Deserialize, Serialize};

use crate::contract::{CatchUp, Retry, Scheduled, priority};
use crate::event_batches::{self, Sent, SpanBatch};
use crate::mirror::costs::{self, WaitingCost};
use crate::{Context, Done, Error, Job, NewJob};

/// Readings taken at once: with their roots about one request.
const READINGS: i64 = 450;
/// Rounds of one run; what is left follows as a job of its own.
const ROUNDS: usize = 20;

/// Sends waiting costs. A row is done once Polar accounted for all its events; until then it is sent
/// again, identically.
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
    let batches = event_batches::pack(readings).map_err(|(position, error)| {
        Error::Retry(format!(
            "cost {}: {error}; the table should have refused it",
            readings[position].id
        ))
    })?;
    let ids: Vec<i64> = readings.iter().map(|reading| reading.id).collect();
    let first = costs::mark_sent(&context.pool, &ids).await?;
    let mut answers = Answers::of(&batches);
    let mut failure = None;
    for batch in &batches {
        let sent = event_batches::send(polar, &batch.events).await;
        answers.note(batch, &sent, |reading| first.contains(&ids[reading]));
        if sent.failure.is_some() {
            failure = sent.failure;
            break;
        }
    }
    answers.store(context, &ids).await?;
    failure.map_or(Ok(()), |error| Err(error.into()))
}

/// What Polar said about each reading, by its position.
struct Answers {
    /// How many events of each reading are still undecided.
    open: BTreeMap<usize, usize>,
    refused: BTreeMap<usize, String>,
    /// Why Polar knew readings that it could not know.
    foreign: BTreeMap<usize, String>,
}

impl Answers {
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
            foreign: BTreeMap::new(),
        }
    }

    fn note(&mut self, batch: &SpanBatch, sent: &Sent, is_first: impl Fn(usize) -> bool) {
        for (events, receipt) in &sent.answered {
            for reading in events.iter().flat_map(|&event| &batch.readings[event]) {
                self.open.entry(*reading).and_modify(|events| *events -= 1);
            }
            if !sent.repeated {
                self.note_foreign(batch, events, *receipt, &is_first);
            }
        }
        for (event, reason) in &sent.refused {
            for reading in &batch.readings[*event] {
                self.refused.insert(*reading, reason.clone());
            }
        }
    }

    /// Polar may know roots, and spans that were sent before. If it knew more than these, something
    /// else has the id of a new span; which one it does not say.
    fn note_foreign(
        &mut self,
        batch: &SpanBatch,
        events: &[usize],
        receipt: Receipt,
        is_first: impl Fn(usize) -> bool,
    ) {
        let first: Vec<usize> = events
            .iter()
            .filter(|&&event| batch.events[event].parent_id.is_some())
            .flat_map(|&event| batch.readings[event].iter().copied())
            .filter(|&reading| is_first(reading))
            .collect();
        let may_be_known = events.len() - first.len();
        let known = usize::try_from(receipt.duplicates).unwrap_or(usize::MAX);
        if known > may_be_known && !first.is_empty() {
            let reason = format!(
                "Polar knew {} of {} events before they were sent for the first time: it holds something else under such an id",
                known - may_be_known,
                first.len()
            );
            let foreign = first.into_iter().map(|reading| (reading, reason.clone()));
            self.foreign.extend(foreign);
        }
    }

    /// Stores rows that are done, and rows that Polar will not take or has not taken.
    async fn store(self, context: &Context, ids: &[i64]) -> Result<(), sqlx::Error> {
        let mut refused: Vec<(i64, String)> = Vec::new();
        for (reading, reason) in self.foreign {
            let id = ids[reading];
            let kept = costs::refuse_foreign(&context.pool, &[id], &reason).await?;
            refused.extend(kept.into_iter().map(|id| (id, reason.clone())));
        }
        let done = self.open.iter().filter(|&(_, &events)| events == 0);
        let done: Vec<i64> = done.map(|(&reading, _)| ids[reading]).collect();
        costs::mark_reported(&context.pool, &done).await?;
        metrics::counter!("polar_jobs_costs_reported_total")
            .increment(done.len().saturating_sub(refused.len()) as u64);
        let by_polar = self.refused.into_iter();
        let by_polar: Vec<(i64, String)> = by_polar.map(|(at, reason)| (ids[at], reason)).collect();
        if !by_polar.is_empty() {
            costs::refuse(&context.pool, &by_polar).await?;
        }
        refused.extend(by_polar);
        metrics::counter!("polar_jobs_costs_refused_total").increment(refused.len() as u64);
        for (id, reason) in refused {
            tracing::error!(cost = id, reason, "Polar refused a cost");
        }
        Ok(())
    }
}
