//! A verified delivery on its way into the table.

use axum::body::Bytes;
use polar::Peek;

use super::route;
use super::row::Row;

/// A delivery whose signature was right. Whatever is inside, it is stored.
pub(super) struct Delivery {
    id: String,
    body: Bytes,
    about: Peek,
}

impl Delivery {
    /// `id` is opaque text that Polar chose.
    pub(super) fn new(id: String, body: Bytes) -> Self {
        let about = polar::peek(&body);
        Self { id, body, about }
    }

    /// Bytes of its body.
    pub(super) fn size(&self) -> usize {
        self.body.len()
    }

    /// The row of this delivery with the jobs that follow from it.
    pub(super) fn row(&self) -> Row<'_> {
        let jobs = route::jobs(&self.about);
        Row {
            // Nothing will ever handle what starts no job, so it must not look as if it waited.
            outcome: jobs.is_empty().then_some("ignored"),
            jobs,
            ..self.bare()
        }
    }

    /// The row by itself, for a delivery whose jobs the database refuses: the bytes are kept, people
    /// see that it failed, and Polar need not send it ten times for nothing.
    pub(super) fn unroutable_row(&self) -> Row<'_> {
        Row {
            event_type: None,
            outcome: Some("failed"),
            ..self.bare()
        }
    }

    fn bare(&self) -> Row<'_> {
        Row {
            // Drawn by the statement that stores it.
            id: 0,
            external_id: Some(&self.id),
            event_type: self
                .about
                .event_type
                .as_ref()
                .map(polar::EventType::as_str)
                .filter(|text| is_storable(text)),
            occurred_at: None,
            change: None,
            body: Some(&self.body),
            organization: self
                .about
                .external_customer_id
                .as_deref()
                .and_then(|text| text.parse().ok()),
            customer: self.about.customer_id.map(Into::into),
            outcome: None,
            jobs: Vec::new(),
        }
    }
}

/// Postgres keeps every character in text but this one.
fn is_storable(text: &str) -> bool {
    !text.contains('\0')
}
