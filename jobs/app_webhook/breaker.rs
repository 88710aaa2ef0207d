//! Whether it is worth asking: while the application is down, its messages wait without spending what they may fail.
//!
//! One message that the application cannot digest is that message's failure and not the application's, so only failures of
//! several messages in a row open the breaker.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Failures in a row, of more than one message.
const FAILURES: u32 = 5;
/// The first delay before somebody tries again, which doubles up to the last.
const FIRST_DELAY: Duration = Duration::from_secs(5);
const LAST_DELAY: Duration = Duration::from_secs(60);

/// How a message was let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Normal,
    /// To find out whether the application is back.
    Try,
}

#[derive(Debug, Default)]
pub(super) struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    first: Option<String>,
    of_several: bool,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    next_try: Instant,
    delay: Duration,
}

impl Breaker {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a message through; `Err`: how long it waits. While open, one goes through after each delay, as a try. Whether
    /// that one ever ends does not matter: the next goes after the next delay.
    pub(super) fn admit(&self, now: Instant) -> Result<Admission, Duration> {
        let mut state = self.lock();
        let Some(open) = &mut state.open else {
            return Ok(Admission::Normal);
        };
        if now < open.next_try {
            return Err(open.next_try - now);
        }
        open.next_try = now + open.delay;
        Ok(Admission::Try)
    }

    /// The application is there.
    pub(super) fn answered(&self) {
        *self.lock() = State::default();
    }

    /// No answer, or one that says that the application is not itself.
    pub(super) fn failed(&self, message: &str, admission: Admission, now: Instant) {
        let mut state = self.lock();
        state.failures = state.failures.saturating_add(1);
        match &state.first {
            None => state.first = Some(message.to_owned()),
            Some(first) => state.of_several |= first != message,
        }
        let delay = match (&state.open, admission) {
            (None, _) if state.failures < FAILURES || !state.of_several => return,
            (None, _) => FIRST_DELAY,
            (Some(open), Admission::Try) => (open.delay * 2).min(LAST_DELAY),
            // It was under way when the breaker opened, and says nothing new.
            (Some(_), Admission::Normal) => return,
        };
        state.open = Some(Open {
            next_try: now + delay,
            delay,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Lets this many messages in a row fail.
    fn fail(breaker: &Breaker, messages: &[&str], now: Instant) {
        for message in messages {
            breaker.failed(message, Admission::Normal, now);
        }
    }

    #[test]
    fn failures_of_several_messages_in_a_row_open_it_and_an_answer_closes_it() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        fail(&breaker, &["a", "b", "c", "d"], now);
        assert_eq!(breaker.admit(now), Ok(Admission::Normal));
        breaker.answered();
        fail(&breaker, &["a", "b", "c", "d"], now);
        assert_eq!(
            breaker.admit(now),
            Ok(Admission::Normal),
            "an answer was in between"
        );
        fail(&breaker, &["e"], now);
        assert_eq!(breaker.admit(now), Err(FIRST_DELAY));
        breaker.answered();
        assert_eq!(breaker.admit(now), Ok(Admission::Normal));
    }

    #[test]
    fn one_message_that_always_fails_never_opens_it() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        fail(&breaker, &["a"; 50], now);
        assert_eq!(breaker.admit(now), Ok(Admission::Normal));
    }

    #[test]
    fn while_open_one_message_tries_after_each_delay_which_grows_to_a_minute() {
        let (breaker, mut now) = (Breaker::default(), Instant::now());
        fail(&breaker, &["a", "b", "a", "b", "a"], now);
        for delay in [5, 10, 20, 40, 60, 60] {
            // What was under way when it opened changes nothing.
            fail(&breaker, &["late"], now);
            let delay = Duration::from_secs(delay);
            assert_eq!(breaker.admit(now + delay - SECOND), Err(SECOND));
            now += delay;
            assert_eq!(breaker.admit(now), Ok(Admission::Try));
            assert!(breaker.admit(now).is_err(), "one at a time");
            breaker.failed("a", Admission::Try, now);
        }
    }

    #[test]
    fn a_try_that_never_ends_is_followed_by_another() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        fail(&breaker, &["a", "b", "a", "b", "a"], now);
        assert_eq!(breaker.admit(now + FIRST_DELAY), Ok(Admission::Try));
        assert_eq!(breaker.admit(now + FIRST_DELAY * 2), Ok(Admission::Try));
    }
}
