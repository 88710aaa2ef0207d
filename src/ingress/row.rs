//! An event as it will stand in the table, and the batch of them that one statement takes.

use chrono::{DateTime, Utc};
use jobs::NewJob;
use serde_json::Value;
use uuid::Uuid;

use crate::queue::columns::JobColumns;

/// One event with its jobs.
pub(super) struct Row<'a> {
    /// Reserved beforehand where jobs name it.
    pub(super) id: i64,
    /// The sender's id, unique within the source.
    pub(super) external_id: Option<&'a str>,
    /// Null where unreadable.
    pub(super) event_type: Option<&'a str>,
    /// When it happened, if the sender says.
    pub(super) occurred_at: Option<DateTime<Utc>>,
    /// The data of a change.
    pub(super) change: Option<&'a Value>,
    /// The exact bytes of a delivery.
    pub(super) body: Option<&'a [u8]>,
    /// The organization that a delivery names.
    pub(super) organization: Option<Uuid>,
    /// Polar's id of the customer that a delivery names.
    pub(super) customer: Option<Uuid>,
    /// Set where the event is handled by being stored.
    pub(super) outcome: Option<&'static str>,
    /// What follows from it.
    pub(super) jobs: Vec<NewJob>,
}

/// The columns of the events, for `unnest`.
pub(super) struct EventColumns<'a> {
    pub(super) ids: Vec<i64>,
    pub(super) external_ids: Vec<Option<&'a str>>,
    pub(super) types: Vec<Option<&'a str>>,
    pub(super) occurred_ats: Vec<Option<DateTime<Utc>>>,
    pub(super) changes: Vec<Option<&'a Value>>,
    pub(super) bodies: Vec<Option<&'a [u8]>>,
    pub(super) organizations: Vec<Option<Uuid>>,
    pub(super) customers: Vec<Option<Uuid>>,
    pub(super) outcomes: Vec<Option<&'static str>>,
}

impl<'a> EventColumns<'a> {
    pub(super) fn of(rows: &'a [Row<'a>]) -> Self {
        Self {
            ids: rows.iter().map(|row| row.id).collect(),
            external_ids: rows.iter().map(|row| row.external_id).collect(),
            types: rows.iter().map(|row| row.event_type).collect(),
            occurred_ats: rows.iter().map(|row| row.occurred_at).collect(),
            changes: rows.iter().map(|row| row.change).collect(),
            bodies: rows.iter().map(|row| row.body).collect(),
            organizations: rows.iter().map(|row| row.organization).collect(),
            customers: rows.iter().map(|row| row.customer).collect(),
            outcomes: rows.iter().map(|row| row.outcome).collect(),
        }
    }
}

/// The jobs of all events, each with its cause.
pub(super) struct CausedJobs<'a> {
    pub(super) causes: Vec<i64>,
    /// The positions of the causes among the events, counted from one.
    pub(super) positions: Vec<i32>,
    pub(super) columns: JobColumns<'a>,
}

impl<'a> CausedJobs<'a> {
    pub(super) fn of(rows: &'a [Row<'a>]) -> Self {
        let numbered = (1..).zip(rows);
        let (causes, positions) = numbered
            .flat_map(|(position, row)| row.jobs.iter().map(move |_| (row.id, position)))
            .unzip();
        Self {
            causes,
            positions,
            columns: rows.iter().flat_map(|row| &row.jobs).collect(),
        }
    }
}
