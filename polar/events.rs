//! Events: usage and costs, reported to Polar in batches.
//!
//! Polar stores all events of a request or none, drops an `external_id` that it knows, and never
//! forgets one: sending the same events again is safe, which is what makes a report exactly-once.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{Client, Cost, Error, LlmUsage, LocPart, MetadataValue, Operation, call::Call};

const INGEST: Operation = Operation::post("/v1/events/ingest");

/// One event. Polar checks little of it, so what is sent must be right.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IngestedEvent {
    /// What happened; at most 128 characters.
    pub name: String,
    /// The organization; need not exist at Polar yet.
    pub external_customer_id: String,
    /// Makes the event unique for all time. An event without one is stored again when resent.
    pub external_id: String,
    /// When it happened; the time of receipt when absent. One second ahead of Polar's clock is
    /// refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<DateTime<Utc>>,
    /// The external id of the event that this one belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<String>,
    /// Numbers and texts, and the cost.
    #[serde(skip_serializing_if = "EventMetadata::is_empty")]
    pub metadata: EventMetadata,
}

/// The metadata of an event: free values, and two that Polar understands.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct EventMetadata {
    /// What it cost.
    #[serde(rename = "_cost", skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// What a model was used for.
    #[serde(rename = "_llm", skip_serializing_if = "Option::is_none")]
    pub llm: Option<LlmUsage>,
    /// Free values; text must have 1..500 characters.
    #[serde(flatten)]
    pub values: BTreeMap<String, MetadataValue>,
}

impl EventMetadata {
    fn is_empty(&self) -> bool {
        self.cost.is_none() && self.llm.is_none() && self.values.is_empty()
    }
}

impl IngestedEvent {
    /// A metered quantity: `metadata.count`.
    #[must_use]
    pub fn count(
        name: impl Into<String>,
        external_customer_id: impl Into<String>,
        external_id: impl Into<String>,
        timestamp: DateTime<Utc>,
        count: i64,
    ) -> Self {
        let mut event = Self::root(name, external_customer_id, external_id);
        event.timestamp = Some(timestamp);
        event
            .metadata
            .values
            .insert("count".to_owned(), MetadataValue::Integer(count));
        event
    }

    /// The root under which cost spans hang; sent with every span, stored once.
    #[must_use]
    pub fn root(
        name: impl Into<String>,
        external_customer_id: impl Into<String>,
        external_id: impl Into<String>,
    ) -> Self {
        Self {
            name: name.into(),
            external_customer_id: external_customer_id.into(),
            external_id: external_id.into(),
            timestamp: None,
            parent_id: None,
            metadata: EventMetadata::default(),
        }
    }

    /// A span below `root` that carries a cost, and what a model was used for if one was.
    #[must_use]
    pub fn span(
        root: &Self,
        name: impl Into<String>,
        external_id: impl Into<String>,
        cost: Cost,
        llm: Option<LlmUsage>,
    ) -> Self {
        let mut event = Self::root(name, root.external_customer_id.as_str(), external_id);
        event.parent_id = Some(root.external_id.clone());
        event.metadata.cost = Some(cost);
        event.metadata.llm = llm;
        event
    }
}

/// What Polar did with a batch. `inserted + duplicates` must equal what was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Events stored now.
    pub inserted: u64,
    /// Events that Polar knew already.
    #[serde(default)]
    pub duplicates: u64,
}

impl Receipt {
    /// Whether every one of `sent` events is accounted for.
    #[must_use]
    pub fn accounts_for(&self, sent: usize) -> bool {
        u64::try_from(sent).is_ok_and(|sent| self.inserted + self.duplicates == sent)
    }
}

/// The operations on events; see [`Client::events`].
#[derive(Clone, Copy)]
pub struct Events<'a>(pub(crate) &'a Client);

impl Events<'_> {
    /// Reports a batch: all or nothing. Up to about 1 000 events answer well within the timeout;
    /// 10 MiB is the end.
    ///
    /// The events go out sorted by `external_id`, because two overlapping requests in different
    /// order can deadlock at Polar.
    ///
    /// # Errors
    /// `Invalid` when an event is refused: [`Error::refused_indexes`] and the faults then name
    /// positions in `events`; drop those and send the rest. `Unreadable` when a success is not
    /// Polar's own.
    pub async fn ingest(self, events: &[IngestedEvent]) -> Result<Receipt, Error> {
        let mut order: Vec<usize> = (0..events.len()).collect();
        order.sort_by(|&a, &b| events[a].external_id.cmp(&events[b].external_id));
        let batch = Batch {
            events: order.iter().map(|&index| &events[index]).collect(),
        };
        self.0
            .fetch_own(Call::new(INGEST).json(&batch))
            .await
            .map_err(|error| in_callers_order(error, &order))
    }
}

#[derive(Serialize)]
struct Batch<'a> {
    events: Vec<&'a IngestedEvent>,
}

/// Polar names positions in the sorted request; the caller knows its own.
fn in_callers_order(error: Error, order: &[usize]) -> Error {
    let Error::Invalid(mut invalid) = error else {
        return error;
    };
    for fault in &mut invalid.faults {
        if fault.event_index().is_none() {
            continue;
        }
        if let Some(LocPart::Index(index)) = fault.loc.get_mut(2)
            && let Some(&original) = order.get(*index)
        {
            *index = original;
        }
    }
    Error::Invalid(invalid)
}
