//! What must be asked of the fleet or reported to it, and the task that does so: what is asked is
//! asked once for all calls of a process that wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jobs::contract::in_time;

use super::breaker::Passage;
use super::budget::Demand;
use super::fleet::{BreakerReport, CallGrant, FleetStore, Outlook, Reports, TokenReport};
use super::metrics;
use super::shared::Shared;
use super::state::{Quota, State};
use super::token::TokenStatus;

/// What the refill task should do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Tell the fleet.
    Report(Reports),
    /// Ask the fleet for calls.
    AskForCalls(Demand),
    /// Nothing before this moment, unless something happens.
    Sleep(Option<Instant>),
}

impl<T> State<T> {
    /// What the refill task should do: reports first, because a grant that crossed a report was
    /// decided on a row that is no longer true.
    pub(super) fn next_action(&mut self, now: Instant) -> Action {
        if let Some(until) = self.database_until.filter(|until| now < *until) {
            return Action::Sleep(Some(until));
        }
        if self.reports != Reports::default() {
            return Action::Report(self.reports);
        }
        let demand = self.demand();
        let Some(most_urgent) = demand.iter().position(|wanted| *wanted > 0) else {
            return self.look(now);
        };
        let asks = matches!(
            self.token,
            TokenStatus::Refused { .. } | TokenStatus::Due { .. }
        ) || self.admissible(now).is_some();
        if !asks || self.rejected(now).is_some() || self.has_quota(now) {
            return Action::Sleep(None);
        }
        match self.ask_again_at {
            Some((at, class)) if now < at && class <= most_urgent => Action::Sleep(Some(at)),
            _ if self.breaker.passage(now) == Passage::Free => Action::AskForCalls(demand),
            _ => Action::AskForCalls(up_to(1, demand)),
        }
    }

    /// What waits, as far as it has a place: what is granted and not used in time is lost.
    fn demand(&mut self) -> Demand {
        up_to(self.most_in_flight, self.waiting.demand())
    }

    /// Nobody waits; but as long as the token counts as refused, look whether others know better.
    fn look(&self, now: Instant) -> Action {
        match self.token {
            TokenStatus::Refused { ask_at: at } | TokenStatus::Due { look_at: at } => {
                // While all wait as Polar asked, the fleet says nothing of the token.
                let at = self.wait_until.map_or(at, |until| at.max(until));
                if now < at {
                    Action::Sleep(Some(at))
                } else {
                    Action::AskForCalls(Demand::default())
                }
            }
            TokenStatus::Valid | TokenStatus::Probing { .. } => Action::Sleep(None),
        }
    }

    /// The fleet was informed.
    pub(super) fn reported(&mut self, reports: Reports) {
        let Reports {
            wait_until,
            token,
            breaker,
        } = &mut self.reports;
        if *wait_until == reports.wait_until {
            *wait_until = None;
        }
        if *token == reports.token {
            *token = None;
        }
        if *breaker == reports.breaker {
            *breaker = None;
        }
        self.database_until = None;
    }

    /// The fleet gave us what it could.
    pub(super) fn granted(&mut self, grant: CallGrant, ends: Instant, now: Instant) {
        self.database_until = None;
        if self.reports.wait_until.is_some() || self.reports.token.is_some() {
            // We know better than the row that was read; the calls are forgone.
            return;
        }
        self.token.learn(grant.outlook, now, &self.timing);
        if let Outlook::Waiting(wait) = grant.outlook {
            self.wait_until = self.wait_until.max(Some(now + wait));
        }
        self.quota = Quota {
            calls: grant.calls,
            ends,
        };
        // A pause however short, so that a drained budget is asked for in batches.
        let pause = grant.more_in.max(self.timing.quota_lifetime / 10);
        let most_urgent = self.waiting.demand().iter().position(|wanted| *wanted > 0);
        self.ask_again_at = most_urgent
            .filter(|_| !grant.more_in.is_zero())
            .map(|class| (now + pause, class));
        if grant.outlook == Outlook::Probe && most_urgent.is_none() {
            self.token.unanswered();
        }
    }

    /// The database failed: without budget no call goes out.
    pub(super) fn database_failed(&mut self, now: Instant) {
        self.database_until = Some(now + self.timing.query_retry_delay);
    }
}

/// The most urgent calls of a demand, at most so many.
fn up_to(mut most: u32, demand: Demand) -> Demand {
    demand.map(|wanted| {
        let taken = wanted.min(most);
        most -= taken;
        taken
    })
}

/// The refill task: serves the calls that wait, for ever.
pub(super) async fn refill(shared: Arc<Shared>, store: FleetStore, query_timeout: Duration) {
    let mut failing = false;
    loop {
        let action = shared.lock().next_action(Instant::now());
        let asked = match action {
            Action::Report(reports) => {
                Some(in_time(query_timeout, report(&shared, &store, reports)).await)
            }
            Action::AskForCalls(demand) => {
                Some(in_time(query_timeout, ask_for_calls(&shared, &store, demand)).await)
            }
            Action::Sleep(until) => {
                sleep(&shared, until).await;
                None
            }
        };
        match asked {
            Some(Err(error)) => {
                if !failing {
                    tracing::error!(%error, "the call budget cannot be read; no call goes to Polar until it can");
                }
                failing = true;
                shared.lock().database_failed(Instant::now());
            }
            Some(Ok(())) => {
                if failing {
                    tracing::info!("the call budget can be read again");
                }
                failing = false;
            }
            None => {}
        }
        shared.serve();
    }
}

async fn ask_for_calls(
    shared: &Shared,
    store: &FleetStore,
    demand: Demand,
) -> Result<(), sqlx::Error> {
    let (grant, ends) = store.take_calls(demand).await?;
    metrics::budget_left(grant.calls_left);
    shared.lock().granted(grant, ends, Instant::now());
    Ok(())
}

async fn report(shared: &Shared, store: &FleetStore, reports: Reports) -> Result<(), sqlx::Error> {
    let from_now = |until: Instant| until.saturating_duration_since(Instant::now());
    if let Some(until) = reports.wait_until {
        store.note_wait(from_now(until)).await?;
    }
    match reports.token {
        Some(TokenReport::Refused) if store.note_token_refused().await? => {
            tracing::error!(
                "Polar refuses the access token: all outward work is paused and tried once a minute; check POLAR_ACCESS_TOKEN"
            );
        }
        Some(TokenReport::Accepted) if store.note_token_accepted().await? => {
            tracing::info!("Polar takes the access token again: outward work resumes");
        }
        _ => {}
    }
    if let Some(report) = reports.breaker {
        let probe_in = match report {
            BreakerReport::Opened { until } => Some(from_now(until)),
            BreakerReport::Closed => None,
        };
        store.note_breaker(probe_in).await?;
    }
    shared.lock().reported(reports);
    Ok(())
}

async fn sleep(shared: &Shared, until: Option<Instant>) {
    match until {
        Some(until) => {
            // Either is a reason to look again.
            let _ = tokio::time::timeout_at(until.into(), shared.changed.notified()).await;
        }
        None => shared.changed.notified().await,
    }
}
