//! What goes wrong at a support desk: it is down, slow to answer, busy, or refuses inside an answer of status 200.

use std::collections::VecDeque;

use serde::Deserialize;

/// Plain does not work at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlainOutage {
    /// 503.
    Unavailable,
    /// No answer until the caller gives up.
    Silent,
    /// A gateway answers in its place: 200 with a page of HTML.
    Page,
}

/// What becomes of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlainFault {
    /// 200 with an `error` of this code inside; nothing is done.
    Refused(&'static str),
    /// 200 with top-level `errors`; nothing is done.
    Errors,
    /// 200 without an error and without a result; nothing is done.
    Empty,
    /// 200 with JSON that is no answer at all; nothing is done.
    Odd,
    /// It is done, but the answer is a 502.
    AnswerLost,
    /// 429 with this `retry-after`, in seconds.
    TooMany(u32),
}

#[derive(Debug, Default)]
pub(in crate::plain) struct PlainFaults {
    pub(in crate::plain) outage: Option<PlainOutage>,
    pub(in crate::plain) broken: Option<String>,
    armed: VecDeque<(String, PlainFault)>,
}

impl PlainFaults {
    pub(in crate::plain) fn arm(&mut self, operation: &str, fault: PlainFault) {
        self.armed.push_back((operation.to_owned(), fault));
    }

    pub(in crate::plain) fn take(&mut self, operation: &str) -> Option<PlainFault> {
        let place = self
            .armed
            .iter()
            .position(|(armed, _)| armed == operation)?;
        self.armed.remove(place).map(|(_, fault)| fault)
    }
}
