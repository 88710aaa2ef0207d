//! Tells Polar what was counted, once.

use std::time::Duration;

use chrono::{DateTime, Utc};
use polar::{CallClass, Client, IngestedEvent, Receipt};
use serde::{Deserialize, Serialize};

use crate::contract::{CatchUp, Retry, Scheduled, priority};
use crate::event_batches::{self, MAX_EVENTS};
use crate::mirror::usage::{self, FrozenReport};
use crate::{Context, Done, Error, Job, NewJob};

/// The event's name at Polar.
const EVENT: &str = "event_ingestion";
/// Batches of one run; what is left follows as a job of its own.
const BATCHES: usize = 20;
/// How long to wait for Polar's clock where that of Postgres is ahead: Polar refuses an event of the
/// next second.
const CLOCK_WAIT: Duration = Duration::from_secs(15);

/// Sends frozen counts. Whatever happens between sending and storing the answer, the next run sends
/// the identical event again, and Polar knows it by its id.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReportUsage {}

impl Job for ReportUsage {
    const KIND: &'static str = "report_usage";
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
                "billing is not configured; counts wait until it is",
            ));
        };
        let polar = polar.with_class(CallClass::Metering);
        usage::resolve_waiting(&context.pool, context.settings.self_organization).await?;
        let limit = i64::try_from(MAX_EVENTS).expect("a batch fits");
        let (mut last, mut early) = (None, 0);
        for _ in 0..BATCHES {
            let batch = usage::frozen(&context.pool, last.as_ref(), limit).await?;
            let Some(newest) = batch.last() else {
                return finish(early, None);
            };
            early += report(context, &polar, &batch).await?;
            last = Some(newest.clone());
        }
        finish(early, Some(NewJob::of(&Self {})))
    }
}

impl Scheduled for ReportUsage {
    const CRON: &'static str = "*/5 * * * *";
    const CATCH_UP: CatchUp = CatchUp::Latest;

    fn at(_: DateTime<Utc>) -> Self {
        Self {}
    }
}

/// Sends one batch and stores what Polar decided, also when the rest failed. Returns how many
/// were too early.
async fn report(context: &Context, polar: &Client, batch: &[FrozenReport]) -> Result<usize, Error> {
    let events: Vec<IngestedEvent> = batch.iter().map(event).collect();
    let sent = event_batches::send(polar, &events).await;
    for (positions, receipt) in &sent.answered {
        let reports: Vec<&FrozenReport> =
            positions.iter().map(|&position| &batch[position]).collect();
        usage::mark_reported(&context.pool, &reports, *receipt).await?;
        metrics::counter!("polar_jobs_usage_reported_total").increment(reports.len() as u64);
    }
    if !sent.refused.is_empty() {
        let refused: Vec<(&FrozenReport, &str)> = sent
            .refused
            .iter()
            .map(|(position, reason)| (&batch[*position], reason.as_str()))
            .collect();
        usage::refuse(&context.pool, &refused).await?;
        metrics::counter!("polar_jobs_usage_refused_total").increment(refused.len() as u64);
        for (report, reason) in refused {
            tracing::error!(
                external_id = report.external_id,
                reason,
                "Polar refused a usage report"
            );
        }
    }
    match sent.failure {
        Some(error) => Err(error.into()),
        None => Ok(sent.early.len()),
    }
}

/// Asks Polar whether it holds these reports, by sending the identical events again: an answer as exact
/// as the one that the first sending gets. What Polar knows it counts as a duplicate and drops; what it did not know it holds
/// now. Returns both numbers.
///
/// # Errors
/// When Polar does not answer, or refuses an event that it took before.
pub async fn ask_polar(polar: &Client, reports: &[FrozenReport]) -> Result<Receipt, Error> {
    let polar = polar.with_class(CallClass::Bulk);
    let mut total = Receipt::default();
    for batch in reports.chunks(MAX_EVENTS) {
        let events: Vec<IngestedEvent> = batch.iter().map(event).collect();
        let receipt = polar.events().ingest(&events).await?;
        total.inserted += receipt.inserted;
        total.duplicates += receipt.duplicates;
    }
    Ok(total)
}

/// The event of a frozen count: the same, whenever it is made.
fn event(report: &FrozenReport) -> IngestedEvent {
    IngestedEvent::count(
        EVENT,
        report.organization_id.to_string(),
        report.external_id.as_str(),
        report.timestamp,
        report.quantity,
    )
}

fn finish(early: usize, next: Option<NewJob>) -> Result<Done, Error> {
    if early > 0 {
        let reason = format!(
            "{early} counts are ahead of Polar's clock; set the clock of the Postgres server"
        );
        return Err(Error::not_yet(reason, CLOCK_WAIT));
    }
    Ok(Done::applied().then(next))
}
