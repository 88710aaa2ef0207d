//! What a process asks of the fleet and tells it, and in which order: news first, because a lease
//! that crossed news was decided on a row that is no longer true.

use std::time::Instant;

use super::authorization::{Authorization, News};
use super::budget::Demand;
use super::fleet::{Lease, Outlook};
use super::state::{Portion, State};

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
        let asks = matches!(
            self.authorization,
            Authorization::Refused { .. } | Authorization::Due { .. }
        ) || self.lets_out(now);
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
            Authorization::Refused { ask_at: at } | Authorization::Due { look_at: at } => {
                // While all wait as Polar asked, the fleet says nothing of the token.
                let at = self.wait_until.map_or(at, |until| at.max(until));
                if now < at {
                    Step::Sleep(Some(at))
                } else {
                    Step::Lease(Demand::default())
                }
            }
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
}

/// One call of a class.
fn only_one(class: usize) -> Demand {
    let mut one = Demand::default();
    one[class] = 1;
    one
}
