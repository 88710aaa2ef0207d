//! Sends events so that one bad event stops no other.
//!
//! Polar stores all events of a request or none. A refusal names the bad ones by position:
//! they are taken out and the rest goes again. Where it names none, the batch is halved until the
//! refused one is alone. Every event has an `external_id`, so sending one twice does no harm.

mod spans;

use std::collections::BTreeSet;

use polar::{Client, Error, IngestedEvent, Invalid, Receipt};

pub(crate) use spans::{SpanBatch, pack};

/// The most events of one request: well within Polar's timeout and body limit.
pub(crate) const MAX_EVENTS: usize = 500;

/// What became of a batch. Positions are those of the events given.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// Requests that Polar accounted for in full: the events, and its answer.
    pub(crate) answered: Vec<(Vec<usize>, Receipt)>,
    /// Events that Polar will never take, and why.
    pub(crate) refused: Vec<(usize, String)>,
    /// Events dated after Polar's clock: taken a moment later.
    pub(crate) early: Vec<usize>,
    /// What ended the attempt before every event was decided.
    pub(crate) failure: Option<Error>,
    /// An answer did not add up, so its events went again: Polar may have known them from there.
    pub(crate) repeated: bool,
}

/// Sends `events`, at most [`MAX_EVENTS`], in as many requests as it takes to decide each.
pub(crate) async fn send(polar: &Client, events: &[IngestedEvent]) -> Sent {
    let mut sent = Sent::default();
    let mut open: Vec<Vec<usize>> = vec![(0..events.len()).collect()];
    while let Some(batch) = open.pop() {
        if batch.is_empty() {
            continue;
        }
        let request: Vec<IngestedEvent> = batch
            .iter()
            .map(|&position| events[position].clone())
            .collect();
        match polar.events().ingest(&request).await {
            Ok(receipt) if receipt.accounts_for(batch.len()) => {
                sent.answered.push((batch, receipt))
            }
            Ok(receipt) => {
                sent.repeated = true;
                let reason = format!(
                    "Polar stored {} and knew {} of {} events",
                    receipt.inserted,
                    receipt.duplicates,
                    batch.len()
                );
                sent.halve(batch, reason, &mut open);
            }
            Err(Error::Invalid(invalid)) if names_one(&invalid, batch.len()) => {
                open.push(sent.take_out(&invalid, &batch));
            }
            Err(
                error @ (Error::Invalid(_)
                | Error::Conflict { .. }
                | Error::Unexpected { status: 413, .. }),
            ) => {
                sent.halve(batch, error.to_string(), &mut open);
            }
            Err(error) => {
                sent.failure = Some(error);
                break;
            }
        }
    }
    sent
}

fn names_one(invalid: &Invalid, events: usize) -> bool {
    invalid
        .refused_indexes()
        .iter()
        .any(|&index| index < events)
}

impl Sent {
    /// Takes the named events out of the batch and returns the rest.
    fn take_out(&mut self, invalid: &Invalid, batch: &[usize]) -> Vec<usize> {
        let named: BTreeSet<usize> = invalid.refused_indexes().into_iter().collect();
        for &index in named.range(..batch.len()) {
            let faults = invalid.faults_of_event(index);
            if faults.iter().all(|fault| fault.is_at("timestamp")) {
                self.early.push(batch[index]);
            } else {
                let reasons: Vec<String> = faults.iter().map(ToString::to_string).collect();
                self.refused.push((batch[index], reasons.join("; ")));
            }
        }
        (0..batch.len())
            .filter(|index| !named.contains(index))
            .map(|index| batch[index])
            .collect()
    }

    /// Splits a batch that Polar refused without naming an event; one that is alone is the refused one.
    fn halve(&mut self, batch: Vec<usize>, reason: String, open: &mut Vec<Vec<usize>>) {
        if let [only] = batch[..] {
            self.refused.push((only, reason));
            return;
        }
        let (first, second) = batch.split_at(batch.len() / 2);
        open.push(second.to_vec());
        open.push(first.to_vec());
    }
}
