//! A request's changes, parsed; or every fault in them.

use chrono::{DateTime, Utc};
use jobs::change::{self, Change, Fault, ParsedChange};
use jobs::types::{CostReading, UsageReading};
use serde::Serialize;
use serde_json::Value;

/// Changes in one request.
const MOST: usize = 10_000;

/// What a request holds, by what becomes of it.
#[derive(Debug, Default)]
pub(in crate::ingress) struct Batch {
    /// Stored as events, each with a job.
    pub(super) changes: Vec<ToApply>,
    /// Stored as rows of `usage`.
    pub(super) usage: Vec<UsageReading>,
    /// Stored as rows of `costs`.
    pub(super) costs: Vec<CostReading>,
}

/// A change that a job will apply.
#[derive(Debug)]
pub(super) struct ToApply {
    pub(super) id: Option<String>,
    pub(super) occurred_at: Option<DateTime<Utc>>,
    pub(super) change: Change,
    pub(super) data: Value,
}

/// Why nothing of a request is taken.
#[derive(Debug)]
pub(super) enum Refusal {
    TooMany,
    Faulty(Vec<IndexedFault>),
}

/// A fault, and in which change of the request.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct IndexedFault {
    index: usize,
    pointer: String,
    message: String,
}

impl Batch {
    /// Reads a body: one change, or `{"changes": [..]}`.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Refusal> {
        let changes = changes_of(body)?;
        if changes.len() > MOST {
            return Err(Refusal::TooMany);
        }
        let mut batch = Self::default();
        let mut faults = Vec::new();
        for (index, change) in changes.into_iter().enumerate() {
            if let Err(found) = batch.add(change) {
                faults.extend(
                    found
                        .into_iter()
                        .map(|fault| IndexedFault::of(index, fault)),
                );
            }
        }
        if faults.is_empty() {
            Ok(batch)
        } else {
            Err(Refusal::Faulty(faults))
        }
    }

    /// How many changes.
    pub(in crate::ingress) fn len(&self) -> usize {
        self.changes.len() + self.usage.len() + self.costs.len()
    }

    /// What the changes to be applied are about, each as the ordering key of its job.
    pub(super) fn subjects(&self) -> Vec<String> {
        let changes = self.changes.iter();
        changes
            .filter_map(|to_apply| to_apply.change.ordering_key())
            .collect()
    }

    /// Takes one change, or names its faults.
    pub(in crate::ingress) fn add(&mut self, mut value: Value) -> Result<(), Vec<Fault>> {
        let ParsedChange {
            id,
            occurred_at,
            change,
        } = change::parse(&value)?;
        match change {
            Change::UsageRecorded(reading) => self.usage.push(UsageReading {
                recorded_at: reading.recorded_at.or(occurred_at),
                external_id: id,
                ..reading
            }),
            Change::CostRecorded(reading) => self.costs.push(CostReading {
                recorded_at: occurred_at,
                external_id: id,
                ..reading
            }),
            change => {
                let data = value.get_mut("data").map(Value::take).unwrap_or_default();
                self.changes.push(ToApply {
                    id,
                    occurred_at,
                    change,
                    data,
                });
            }
        }
        Ok(())
    }
}

impl IndexedFault {
    fn of(index: usize, Fault { pointer, message }: Fault) -> Self {
        Self {
            index,
            pointer,
            message,
        }
    }
}

/// The changes in a body. An object with `type` is a change, whatever else it has.
fn changes_of(body: &[u8]) -> Result<Vec<Value>, Refusal> {
    // serde_json says where, and quotes nothing of a body that is no JSON.
    let mut body: Value = serde_json::from_slice(body)
        .map_err(|error| faulty("", format!("is not JSON: {error}")))?;
    if body.is_array() {
        let message = r#"must be one change, or {"changes": [..]} around several"#;
        return Err(faulty("", message.to_owned()));
    }
    if body.get("type").is_some() {
        return Ok(vec![body]);
    }
    let beside = body
        .as_object()
        .and_then(|fields| fields.keys().find(|name| *name != "changes").cloned());
    match (body.get_mut("changes").map(Value::take), beside) {
        (None, _) => Ok(vec![body]),
        (Some(_), Some(_)) => {
            let message = r#"must have no field beside "changes", or be one change"#;
            Err(faulty("", message.to_owned()))
        }
        (Some(Value::Array(changes)), None) => Ok(changes),
        (Some(_), None) => Err(faulty("/changes", "must be an array".to_owned())),
    }
}

fn faulty(pointer: &str, message: String) -> Refusal {
    Refusal::Faulty(vec![IndexedFault {
        index: 0,
        pointer: pointer.to_owned(),
        message,
    }])
}
