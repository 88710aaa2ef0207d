//! What one process knows, and the one place where it is decided whether a call may go out.
//!
//! No clock, no database, no tasks: the moment is given, and what must be asked of the fleet or
//! told to it is read off by the pump.

use std::time::{Duration, Instant};

use polar::{Answer, Held, HeldReason};

use super::Timing;
use super::authorization::{Authorization, News};
use super::breaker::{Breaker, Passage};
use super::budget::{Demand, Rate};
use super::fleet::{Lease, Outlook};
use super::waiting::Waiting;

/// What one process knows.
#[derive(Debug)]
pub(super) struct State {
    timing: Timing,
    rate: Rate,
    pub(super) waiting: Waiting,
    portion: Portion,
    breaker: Breaker,
    authorization: Authorization,
    /// Calls under way.
    under_way: u32,
    /// Polar asked us to wait.
    wait_until: Option<Instant>,
    /// The database failed.
    database_until: Option<Instant>,
    /// Nothing is to be had from the fleet's budget before, unless for a more urgent class.
    lease_at: Option<(Instant, usize)>,
    news: PendingNews,
}

/// Calls leased from the fleet's budget.
#[derive(Clone, Copy, Debug)]
struct Portion {
    calls: u32,
    ends: Instant,
}

/// What the fleet has not been told yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PendingNews {
    pub(super) wait_until: Option<Instant>,
    pub(super) token: Option<News>,
}

/// What the pump should do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Tell the fleet.
    Tell(PendingNews),
    /// Ask the fleet for calls.
    Lease(Demand),
    /// Nothing before this moment, unless something happens.
    Sleep(Option<Instant>),
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
    fn lets_out(&self, now: Instant) -> bool {
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
                Authorization::Refused { .. } => false,
            }
    }

    fn has_budget(&self, now: Instant) -> bool {
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

    /// What the pump should do.
    pub(super) fn step(&mut self, now: Instant) -> Step {
        if let Some(until) = self.database_until.filter(|until| now < *until) {
            return Step::Sleep(Some(until));
        }
        if self.news != PendingNews::default() {
            return Step::Tell(self.news);
        }
        let demand = self.waiting.demand();
        let Some(most_urgent) = demand.iter().position(|wanted| *wanted > 0) else {
            return self.look(now);
        };
        let asks =
            matches!(self.authorization, Authorization::Refused { .. }) || self.lets_out(now);
        if !asks || self.held(now).is_some() || self.has_budget(now) {
            return Step::Sleep(None);
        }
        match self.lease_at {
            Some((at, class)) if now < at && class <= most_urgent => Step::Sleep(Some(at)),
            _ if self.breaker.is_open() => Step::Lease(only_one(most_urgent)),
            _ => Step::Lease(demand),
        }
    }

    /// Nobody waits; but as long as the token counts as refused, look whether others know better.
    fn look(&self, now: Instant) -> Step {
        match self.authorization {
            Authorization::Refused { ask_at } if now < ask_at => Step::Sleep(Some(ask_at)),
            Authorization::Refused { .. } => Step::Lease(Demand::default()),
            Authorization::Good | Authorization::Probing { .. } => Step::Sleep(None),
        }
    }

    /// The fleet was told.
    pub(super) fn told(&mut self, news: PendingNews) {
        if self.news.wait_until == news.wait_until {
            self.news.wait_until = None;
        }
        if self.news.token == news.token {
            self.news.token = None;
        }
        self.database_until = None;
    }

    /// The fleet gave us what it could.
    pub(super) fn leased(&mut self, lease: Lease, ends: Instant, now: Instant) {
        self.database_until = None;
        if self.news != PendingNews::default() {
            // We know better than the row that was read; the calls are forgone.
            return;
        }
        self.authorization.learn(lease.outlook, now, &self.timing);
        if let Outlook::Waiting(wait) = lease.outlook {
            self.wait_until = self.wait_until.max(Some(now + wait));
        }
        self.portion = Portion {
            calls: lease.calls,
            ends,
        };
        // A pause however short, so that a drained budget is asked for in batches.
        let pause = lease.more_in.max(self.timing.portion / 10);
        let most_urgent = self.waiting.demand().iter().position(|wanted| *wanted > 0);
        self.lease_at = most_urgent
            .filter(|_| !lease.more_in.is_zero())
            .map(|class| (now + pause, class));
        if lease.outlook == Outlook::Probe && most_urgent.is_none() {
            // Nobody is there any more to try it.
            self.authorization.untold();
        }
    }

    /// The database failed: without budget no call goes out.
    pub(super) fn database_failed(&mut self, now: Instant) {
        self.database_until = Some(now + self.timing.database_pause);
    }

    /// What a call is told that waited here for as long as one waits.
    pub(super) fn waited_in_vain(&self, now: Instant) -> Held {
        if let Some(held) = self.held(now) {
            return held;
        }
        let (until, reason) = match (self.authorization, self.breaker.passage(now)) {
            (Authorization::Probing { .. } | Authorization::Refused { .. }, _) => {
                (self.timing.patience, HeldReason::Unauthorized)
            }
            (_, Passage::Probing | Passage::Probe) => (self.timing.patience, HeldReason::Breaker),
            _ => (self.rate.time_for(self.waiting.len()), HeldReason::Budget),
        };
        Held {
            until: until.clamp(self.timing.portion, self.timing.window),
            reason,
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

/// One call of a class.
fn only_one(class: usize) -> Demand {
    let mut one = Demand::default();
    one[class] = 1;
    one
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
