//! Writes a change of the application into the mirror, and starts what follows from it.
//!
//! Nothing here talks to Polar. Changes of one organization are applied in the order they were
//! committed (the ordering key is [`Change::ordering_key`]); a replayed one finds newer news in
//! its place and is ignored.

mod application;

use serde::{Deserialize, Serialize};

use crate::change::{self, Change, Fault};
use crate::contract::{Context, Done, Error, Job, NewJob};
use crate::mirror::events;
use application::{Application, NotApplied};

/// Apply one stored change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyChange {
    /// The stored event.
    pub event: i64,
}

impl ApplyChange {
    /// The job of a stored change; `None` for readings, which are counted and not applied.
    #[must_use]
    pub fn for_event(event: i64, change: &Change) -> Option<NewJob> {
        let ordering_key = change.ordering_key()?;
        let mut job = NewJob::of(&Self { event }).caused_by(event);
        job.ordering_key = Some(ordering_key);
        Some(job)
    }
}

impl Job for ApplyChange {
    const KIND: &'static str = "apply_change";

    async fn run(self, context: &Context) -> Result<Done, Error> {
        let stored = events::change(&context.pool, self.event).await?;
        let stored = stored
            .ok_or_else(|| Error::discard(format!("event {} is no stored change", self.event)))?;
        let change = change::parse_stored(&stored.change_type, &stored.data)
            .map_err(|faults| refused(&faults))?;
        log_organization(&change);
        let mut transaction = context.begin().await?;
        let application = Application {
            connection: &mut transaction,
            event: self.event,
            support_desk: context.settings.support_desk.is_some(),
        };
        match application.apply(&change).await {
            Ok(next) => Ok(Done::applied().then(next).within(transaction)),
            Err(NotApplied::Ignored(reason)) => Ok(Done::ignored(reason)),
            Err(NotApplied::Database(error)) => Err(error.into()),
        }
    }
}

/// Names the organization in the lines of the attempt: the payload names only the event.
fn log_organization(change: &Change) {
    let key = change.ordering_key();
    if let Some(id) = key
        .as_deref()
        .and_then(|key| key.strip_prefix("organization/"))
    {
        tracing::Span::current().record("organization", id);
    }
}

fn refused(faults: &[Fault]) -> Error {
    let list: Vec<String> = faults
        .iter()
        .map(|fault| format!("{} {}", fault.pointer, fault.message))
        .collect();
    Error::discard(format!(
        "the stored change is not valid: {}",
        list.join("; ")
    ))
}
