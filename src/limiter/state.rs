//! What one process knows, and the one place where it is decided whether a call may go out.
//!
//! No clock, no database, no tasks: the moment is given.

use std::time::{Duration, Instant};

use polar::{Admission, Answer, CallClass, Rejected, RejectedReason};

use super::breaker::{Breaker, Change, Passage};
use super::budget::Rate;
use super::fleet::{BreakerReport, Reports};
use super::metrics;
use super::queue::{CallQueue, Stagger};
use super::settings::{Limits, Timing};
use super::token::{MissingScopes, TokenStatus};

/// What one process knows. `T` is what a waiting call is answered.
#[derive(Debug)]
pub(super) struct State<T> {
    pub(super) timing: Timing,
    rate: Rate,
    pub(super) waiting: CallQueue<T>,
    pub(super) quota: Quota,
    pub(super) breaker: Breaker,
    pub(super) token: TokenStatus,
    scopes: MissingScopes,
    in_flight: u32,
    pub(super) most_in_flight: u32,
    /// Polar asked us to wait.
    pub(super) wait_until: Option<Instant>,
    /// The database failed, and is not asked before this; kept until it answers.
    pub(super) database_until: Option<Instant>,
    /// Nothing is to be had from the fleet's budget before, unless for a more urgent class.
    pub(super) ask_again_at: Option<(Instant, usize)>,
    pub(super) reports: Reports,
    stagger: Stagger,
}

/// Calls granted out of the fleet's budget.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quota {
    pub(super) calls: u32,
    pub(super) ends: Instant,
}

impl<T> State<T> {
    pub(super) fn new(limits: Limits, timing: Timing, now: Instant) -> Self {
        Self {
            timing,
            rate: Rate::new(limits.per_window, &timing),
            waiting: CallQueue::default(),
            quota: Quota {
                calls: 0,
                ends: now,
            },
            breaker: Breaker::new(timing.breaker_first_delay, timing.breaker_longest_delay),
            token: TokenStatus::Valid,
            scopes: MissingScopes::default(),
            in_flight: 0,
            most_in_flight: limits.in_flight.get(),
            wait_until: None,
            database_until: None,
            ask_again_at: None,
            reports: Reports::default(),
            stagger: Stagger::default(),
        }
    }

    /// Why no call can go out now, whatever its class.
    pub(super) fn rejected(&self, now: Instant) -> Option<Rejected> {
        let rest =
            |until: Option<Instant>| until.filter(|until| now < *until).map(|until| until - now);
        let rejected = |retry_after: Duration, reason| Rejected {
            retry_after,
            reason,
        };
        if let Some(wait) = self.token.wait(now) {
            return Some(rejected(wait, RejectedReason::Unauthorized));
        }
        if let Some(wait) = rest(self.wait_until) {
            return Some(rejected(wait, RejectedReason::RateLimited));
        }
        if let Passage::Shut(wait) = self.breaker.passage(now) {
            return Some(rejected(wait, RejectedReason::Breaker));
        }
        rest(self.database_until).map(|wait| rejected(wait, RejectedReason::BudgetUnknown))
    }

    /// Why no call that needs `scope` can go out now. Asked once for each call: if a probe of the
    /// scope is due, this call is it.
    pub(super) fn check_scope(
        &mut self,
        scope: Option<&'static str>,
        now: Instant,
    ) -> Result<(), Rejected> {
        self.scopes.check(scope, now, &self.timing)
    }

    /// Lets the next call out, or the probe before it, if everything allows it.
    pub(super) fn admit(&mut self, now: Instant) -> Option<Admission> {
        if self.rejected(now).is_some() || !self.has_quota(now) {
            return None;
        }
        let admission = self.admissible(now)?;
        self.quota.calls -= 1;
        self.in_flight += 1;
        if admission == Admission::Probe {
            self.breaker.probe_sent();
            self.token.probe_sent();
        }
        Some(admission)
    }

    /// What may go out, but for the budget.
    pub(super) fn admissible(&self, now: Instant) -> Option<Admission> {
        if self.in_flight >= self.most_in_flight {
            return None;
        }
        match (self.breaker.passage(now), self.token) {
            (Passage::Probing | Passage::Shut(_), _)
            | (_, TokenStatus::Refused { .. } | TokenStatus::Due { .. })
            | (_, TokenStatus::Probing { sent: true, .. }) => None,
            (Passage::Free, TokenStatus::Valid) => Some(Admission::Call),
            (Passage::Probe, _) | (_, TokenStatus::Probing { .. }) => Some(Admission::Probe),
        }
    }

    pub(super) fn has_quota(&self, now: Instant) -> bool {
        self.quota.calls > 0 && now < self.quota.ends
    }

    /// What came of a call that needed `scope`, or of the probe before it.
    pub(super) fn record(
        &mut self,
        scope: Option<&'static str>,
        admission: Admission,
        answer: Answer,
        now: Instant,
    ) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if let Answer::RateLimited { retry_after } = answer {
            self.rate_limited(now + retry_after);
        }
        match admission {
            Admission::Call => self.record_call(scope, answer, now),
            Admission::Probe => self.record_probe(answer, now),
        }
    }

    fn record_call(&mut self, scope: Option<&'static str>, answer: Answer, now: Instant) {
        match answer {
            Answer::Abandoned => return,
            Answer::Down { subject } => return self.breaker.failed(subject),
            Answer::RateLimited { .. } => {}
            // Only the first one is news; while the token is refused, only a probe tells of it.
            Answer::Unauthorized if self.is_refused() => {}
            Answer::Unauthorized => {
                self.reports.token = self.token.refused(now, &self.timing);
            }
            Answer::MissingScope => {
                if self.scopes.missing(scope, now, &self.timing) {
                    report_scope(scope, true);
                }
            }
            Answer::Answered => {
                if self.scopes.granted(scope) {
                    report_scope(scope, false);
                }
            }
        }
        self.breaker.succeeded();
    }

    fn record_probe(&mut self, answer: Answer, now: Instant) {
        let (change, report) = match answer {
            Answer::Answered | Answer::MissingScope => {
                (self.breaker.probe_succeeded(), self.token.accepted())
            }
            Answer::Unauthorized => {
                let report = self.token.refused(now, &self.timing);
                (self.breaker.probe_succeeded(), report)
            }
            Answer::RateLimited { .. } => {
                self.token.unanswered();
                (self.breaker.probe_succeeded(), None)
            }
            Answer::Down { .. } => {
                self.token.unanswered();
                (self.breaker.probe_failed(now), None)
            }
            Answer::Abandoned => {
                self.token.unanswered();
                self.breaker.probe_abandoned(now);
                (Change::None, None)
            }
        };
        self.reports.token = report.or(self.reports.token);
        match change {
            Change::None => {}
            Change::Opened(delay) => {
                tracing::error!(
                    seconds = delay.as_secs(),
                    "Polar is down; calls wait until a probe is answered"
                );
                self.reports.breaker = Some(BreakerReport::Opened { until: now + delay });
            }
            Change::Closed => {
                tracing::info!("Polar answers again; calls go out");
                self.reports.breaker = Some(BreakerReport::Closed);
            }
        }
    }

    fn rate_limited(&mut self, until: Instant) {
        self.quota.calls = 0;
        self.wait_until = self.wait_until.max(Some(until));
        self.reports.wait_until = self.reports.wait_until.max(Some(until));
    }

    /// What a call is answered that waited here for as long as a call waits.
    pub(super) fn timed_out(&self, now: Instant) -> Rejected {
        if let Some(rejected) = self.rejected(now) {
            return rejected;
        }
        let again = self.timing.acquire_timeout;
        let (retry_after, reason) = match (self.token, self.breaker.passage(now)) {
            (
                TokenStatus::Probing { .. } | TokenStatus::Refused { .. } | TokenStatus::Due { .. },
                _,
            ) => (again, RejectedReason::Unauthorized),
            (_, Passage::Probing | Passage::Probe) => (again, RejectedReason::Breaker),
            _ if self.in_flight >= self.most_in_flight => (again, RejectedReason::InFlight),
            // It is being asked again.
            _ if self.database_until.is_some() => {
                (self.timing.query_retry_delay, RejectedReason::BudgetUnknown)
            }
            _ => (
                self.rate.time_for(self.waiting.len()),
                RejectedReason::Budget,
            ),
        };
        Rejected {
            retry_after: retry_after.clamp(self.timing.quota_lifetime, self.timing.window),
            reason,
        }
    }

    /// The same with a moment of its own in the line of its class.
    pub(super) fn stagger(
        &mut self,
        class: CallClass,
        rejected: Rejected,
        now: Instant,
    ) -> Rejected {
        let opening = now.checked_add(rejected.retry_after).unwrap_or(now);
        let moment = self.stagger.next(class, opening, &self.rate);
        Rejected {
            retry_after: rejected.retry_after + (moment - opening),
            ..rejected
        }
    }

    /// Shows what is going on.
    pub(super) fn show(&self) {
        metrics::state(self.is_broken(), self.is_refused(), self.in_flight);
    }

    /// Whether Polar counts as down.
    pub(super) fn is_broken(&self) -> bool {
        self.breaker.is_open()
    }

    /// Whether the token counts as refused.
    pub(super) fn is_refused(&self) -> bool {
        self.token != TokenStatus::Valid
    }
}

fn report_scope(scope: Option<&'static str>, missing: bool) {
    let Some(scope) = scope else { return };
    metrics::missing_scope(scope, missing);
    if missing {
        tracing::error!(
            scope,
            "the access token lacks a scope: the calls that need it are paused and tried once a minute"
        );
    } else {
        tracing::info!(scope, "the access token has the scope: its calls go out");
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
