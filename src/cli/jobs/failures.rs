//! The column `errors`, in which each failed attempt leaves an object. People may have written
//! something else there: what cannot be read is shown as it is.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::super::output;
use crate::queue::table::JobRow;

/// A failed attempt.
pub(super) struct Failure {
    at: String,
    attempt: String,
    pub(super) error: String,
}

impl Failure {
    pub(super) fn line(&self) -> String {
        let Self { at, attempt, error } = self;
        format!("{at} attempt {attempt}: {error}")
    }
}

/// The failures of a job, oldest first.
pub(super) fn of(job: &JobRow) -> Vec<Failure> {
    match serde_json::from_str::<Vec<Box<RawValue>>>(job.errors.get()) {
        Ok(entries) => entries.iter().map(|entry| read(entry)).collect(),
        Err(_) => vec![unreadable(&job.errors)],
    }
}

fn read(entry: &RawValue) -> Failure {
    let Ok(fields) = serde_json::from_str::<BTreeMap<String, Box<RawValue>>>(entry.get()) else {
        return unreadable(entry);
    };
    let field = |name| {
        fields
            .get(name)
            .map(|value| text(value))
            .unwrap_or_default()
    };
    let at = field("at");
    Failure {
        at: at
            .parse::<chrono::DateTime<chrono::Utc>>()
            .map_or(at, output::moment),
        attempt: field("attempt"),
        error: field("error"),
    }
}

fn unreadable(value: &RawValue) -> Failure {
    Failure {
        at: String::new(),
        attempt: "?".to_owned(),
        error: value.get().to_owned(),
    }
}

/// A JSON string without its quotes; anything else as it is written.
fn text(value: &RawValue) -> String {
    serde_json::from_str(value.get()).unwrap_or_else(|_| value.get().to_owned())
}
