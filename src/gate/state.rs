//! What one process knows, and the one place where it is decided whether a call may go out.
//!
//! No clock, no database, no tasks: the moment is given. What must be asked of the fleet or told to
//! it stands in the agenda.

use std::time::{Duration, Instant};

use polar::{Answer, CallClass, Held, HeldReason};

use super::Timing;
use super::agenda::PendingNews;
use super::authorization::Authorization;
use super::breaker::{Breaker, Passage};
use super::budget::Rate;
use super::turns::Turns;
use super::waiting::Waiting;

/// What one process knows.
#[derive(Debug)]
pub(super) struct State {
    pub(super) timing: Timing,
    pub(super) rate: Rate,
    pub(super) waiting: Waiting,
    pub(super) portion: Portion,
    pub(super) breaker: Breaker,
    pub(super) authorization: Authorization,
    /// Calls under way.
    pub(super) under_way: u32,
    /// Polar asked us to wait.
    pub(super) wait_until: Option<Instant>,
    /// The database failed.
    pub(super) database_until: Option<Instant>,
    /// Nothing is to be had from the fleet's budget before, unless for a more urgent class.
    pub(super) lease_at: Option<(Instant, usize)>,
    pub(super) news: PendingNews,
    turns: Turns,
}

/// Calls leased from the fleet's budget.
#[derive(Clone, Copy, Debug)]
pub(super) struct Portion {
    pub(super) calls: u32,
    pub(super) ends: Instant,
}

impl State {
    pub(super) fn new(rate: Rate, timing: Timing, now: Instant) -> Self {
        Self {
            timing,
            rate,
            waiting: Waiting::default(),
            portion: Portion {
                calls: 0,
                ends: now,
            },
            breaker: Breaker::new(timing.breaker_first, timing.breaker_longest),
            authorization: Authorization::Good,
            under_way: 0,
            wait_until: None,
            database_until: None,
            lease_at: None,
            news: PendingNews::default(),
            turns: Turns::default(),
        }
    }

    /// Why no call can go out now, whatever its class.
    pub(super) fn held(&self, now: Instant) -> Option<Held> {
        let rest =
            |until: Option<Instant>| until.filter(|until| now < *until).map(|until| until - now);
        let held = |until: Duration, reason| Held { until, reason };
        if let Some(wait) = self.authorization.wait(now) {
            return Some(held(wait, HeldReason::Unauthorized));
        }
        if let Some(wait) = rest(self.wait_until) {
            return Some(held(wait, HeldReason::RateLimited));
        }
        if let Passage::Shut(wait) = self.breaker.passage(now) {
            return Some(held(wait, HeldReason::Breaker));
        }
        rest(self.database_until).map(|wait| held(wait, HeldReason::Budget))
    }

    /// Lets the next call out if everything allows it.
    pub(super) fn let_out(&mut self, now: Instant) -> bool {
        let goes = self.held(now).is_none() && self.lets_out(now) && self.has_budget(now);
        if goes {
            self.portion.calls -= 1;
            self.under_way += 1;
            self.breaker.let_out();
            self.authorization.let_out();
        }
        goes
    }

    /// Whether breaker and token let a call out. A probe goes out alone, so that its answer is
    /// not mistaken for that of a call from before.
    pub(super) fn lets_out(&self, now: Instant) -> bool {
        let alone = self.under_way == 0;
        let by_breaker = match self.breaker.passage(now) {
            Passage::Free => true,
            Passage::Probe => alone,
            Passage::Probing | Passage::Shut(_) => false,
        };
        by_breaker
            && match self.authorization {
                Authorization::Good => true,
                Authorization::Probing { out, .. } => alone && !out,
                Authorization::Refused { .. } | Authorization::Due { .. } => false,
            }
    }

    pub(super) fn has_budget(&self, now: Instant) -> bool {
        self.portion.calls > 0 && now < self.portion.ends
    }

    /// What came of a call.
    pub(super) fn left(&mut self, answer: Answer, now: Instant) {
        self.under_way = self.under_way.saturating_sub(1);
        let mut news = None;
        match answer {
            Answer::Answered => {
                self.up();
                news = self.authorization.accepted();
            }
            Answer::Unauthorized => {
                self.up();
                news = self.authorization.refused(now, &self.timing);
            }
            Answer::RateLimited { retry_after } => {
                self.up();
                self.authorization.untold();
                self.rate_limited(now + retry_after);
            }
            Answer::Down => {
                self.authorization.untold();
                if self.breaker.down(now) {
                    tracing::error!(
                        "Polar was down several times in a row; calls wait until a probe is answered"
                    );
                }
            }
            Answer::Abandoned => {
                self.authorization.untold();
                self.breaker.abandoned(now);
            }
        }
        self.news.token = news.or(self.news.token);
    }

    fn up(&mut self) {
        if self.breaker.up() {
            tracing::info!("Polar answers again; calls go out");
        }
    }

    fn rate_limited(&mut self, until: Instant) {
        self.portion.calls = 0;
        self.wait_until = self.wait_until.max(Some(until));
        self.news.wait_until = self.news.wait_until.max(Some(until));
    }

    /// What a call is told that waited here for as long as one waits.
    pub(super) fn waited_in_vain(&self, now: Instant) -> Held {
        if let Some(held) = self.held(now) {
            return held;
        }
        let (until, reason) = match (self.authorization, self.breaker.passage(now)) {
            (
                Authorization::Probing { .. }
                | Authorization::Refused { .. }
                | Authorization::Due { .. },
                _,
            ) => (self.timing.patience, HeldReason::Unauthorized),
            (_, Passage::Probing | Passage::Probe) => (self.timing.patience, HeldReason::Breaker),
            _ => (self.rate.time_for(self.waiting.len()), HeldReason::Budget),
        };
        Held {
            until: until.clamp(self.timing.portion, self.timing.window),
            reason,
        }
    }

    /// The same word with a turn of its own in the line of its class.
    pub(super) fn turn(&mut self, class: CallClass, held: Held, now: Instant) -> Held {
        let opening = now.checked_add(held.until).unwrap_or(now);
        let turn = self.turns.next(class, opening, &self.rate);
        Held {
            until: held.until + (turn - opening),
            ..held
        }
    }

    /// Whether Polar counts as down.
    pub(super) fn is_broken(&self) -> bool {
        self.breaker.is_open()
    }

    /// Whether the token counts as refused.
    pub(super) fn is_refused(&self) -> bool {
        self.authorization != Authorization::Good
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
