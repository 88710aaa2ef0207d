//! Whether the application is down, or only one message of it.
//!
//! One message that the application cannot digest is that message's failure and not the application's, so only failures of
//! several messages in a row begin an outage.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::outage::{Admission, Held, Outage};

/// Failures in a row, of more than one message.
const FAILURES: u32 = 5;

#[derive(Debug, Default)]
pub(super) struct Breaker {
    outage: Outage,
    failures: Mutex<Failures>,
}

/// Failures since the last answer.
#[derive(Debug, Default)]
struct Failures {
    count: u32,
    first: Option<String>,
    of_several: bool,
}

impl Breaker {
    /// Lets a message through, or says how long it waits.
    pub(super) fn admit(&self, now: Instant) -> Result<Admission, Held> {
        self.outage.admit(now)
    }

    /// The application is there.
    pub(super) fn answered(&self) {
        *self.lock() = Failures::default();
        self.outage.end();
    }

    /// No answer, or one that says that the application is not itself. `Some`: the application is down, which is
    /// no failure of this message.
    pub(super) fn failed(
        &self,
        message: &str,
        reason: &str,
        admission: Admission,
        now: Instant,
    ) -> Option<Held> {
        let mut failures = self.lock();
        failures.count = failures.count.saturating_add(1);
        match &failures.first {
            None => failures.first = Some(message.to_owned()),
            Some(first) => failures.of_several |= first != message,
        }
        let is_down = failures.count >= FAILURES && failures.of_several;
        (is_down || self.outage.is_known()).then(|| self.outage.begin(reason, admission, now))
    }

    fn lock(&self) -> MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets messages fail one after another; whether the last one's failure is the application's.
    fn fail(breaker: &Breaker, messages: &[&str], now: Instant) -> bool {
        let fail = |message: &str| breaker.failed(message, "down", Admission::Normal, now);
        messages
            .iter()
            .fold(false, |_, message| fail(message).is_some())
    }

    #[test]
    fn failures_of_several_messages_in_a_row_begin_an_outage_and_an_answer_ends_it() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        assert!(!fail(&breaker, &["a", "b", "c", "d"], now));
        assert_eq!(breaker.admit(now), Ok(Admission::Normal));
        breaker.answered();
        assert!(!fail(&breaker, &["a", "b", "c", "d"], now));
        assert!(breaker.admit(now).is_ok(), "an answer was in between");
        assert!(fail(&breaker, &["e"], now));
        assert!(breaker.admit(now).is_err());
        breaker.answered();
        assert_eq!(breaker.admit(now), Ok(Admission::Normal));
        assert!(!fail(&breaker, &["a"], now));
    }

    #[test]
    fn one_message_that_always_fails_begins_none() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        assert!(!fail(&breaker, &["a"; 50], now));
        assert_eq!(breaker.admit(now), Ok(Admission::Normal));
    }
}
