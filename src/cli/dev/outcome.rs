//! What should have come of the demo scenario, and what was found.

use std::fmt::Display;

use super::super::{Failure, output};

/// One thing that was checked.
#[derive(Debug)]
pub(super) struct Outcome {
    what: String,
    expected: String,
    found: String,
}

/// People in one line.
pub(super) fn names(people: Vec<String>) -> String {
    match people.is_empty() {
        true => "nobody".to_owned(),
        false => people.join(", "),
    }
}

impl Outcome {
    pub(super) fn new(
        what: impl Into<String>,
        expected: impl Display,
        found: impl Display,
    ) -> Self {
        Self {
            what: what.into(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }

    fn is_right(&self) -> bool {
        self.expected == self.found
    }
}

/// Prints all of them and says whether each is right.
pub(super) fn report(outcomes: &[Outcome]) -> Result<(), Failure> {
    output::table(
        ["what", "expected", "found", "ok"],
        outcomes.iter().map(|outcome| {
            let right = if outcome.is_right() { "ok" } else { "MISSING" };
            [
                outcome.what.clone(),
                outcome.expected.clone(),
                outcome.found.clone(),
                right.to_owned(),
            ]
        }),
    )?;
    let missing: Vec<&str> = outcomes
        .iter()
        .filter(|outcome| !outcome.is_right())
        .map(|outcome| outcome.what.as_str())
        .collect();
    if missing.is_empty() {
        output::line(&format!(
            "All {} outcomes are as they should be.",
            outcomes.len()
        ))
    } else {
        Err(Failure::failed(format!("missing: {}", missing.join("; "))))
    }
}
