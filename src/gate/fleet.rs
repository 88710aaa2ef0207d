//! What the fleet knows about Polar, as one row, and what one process may do by it at a moment.
//!
//! Pure: the ledger reads the row and the database's clock, asks here, and stores the answer only
//! if the row is still the same.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::budget::{Bucket, Demand, Rate};

/// The row of `polar_jobs.gate`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fleet {
    pub(super) bucket: Bucket,
    /// Polar asked everybody to wait until here.
    pub(super) wait_until: Option<DateTime<Utc>>,
    /// Polar refuses our token.
    pub(super) unauthorized_since: Option<DateTime<Utc>>,
    /// Whoever asks first after this may try the token.
    pub(super) next_probe_at: Option<DateTime<Utc>>,
}

/// What one process may do now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Lease {
    /// Calls to be made within the life of a portion.
    pub(super) calls: u32,
    /// When it is worth asking for more; zero if all demand is met.
    pub(super) more_in: Duration,
    /// What the fleet is doing.
    pub(super) outlook: Outlook,
    /// What is left for the fleet.
    pub(super) calls_left: f64,
}

impl Lease {
    /// The same where others were faster: nothing was stored, so nothing was given.
    pub(super) fn lost(self, again_in: Duration) -> Self {
        let outlook = match self.outlook {
            Outlook::Probe => Outlook::Refused(again_in),
            other => other,
        };
        Self {
            calls: 0,
            more_in: again_in,
            outlook,
            ..self
        }
    }
}

/// What the fleet is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outlook {
    /// Calls go out.
    Open,
    /// Everybody waits, as Polar asked.
    Waiting(Duration),
    /// Everybody waits for a probe of the token, at the earliest in this time.
    Refused(Duration),
    /// The token is refused, and the next call that anybody makes may be the fleet's probe.
    ProbeDue,
    /// The token is refused, and the one call of this lease is the fleet's probe.
    Probe,
}

impl Fleet {
    /// What a process that wants `demand` may do at `now`, and the row after that.
    pub(super) fn lease(
        &self,
        rate: &Rate,
        probe_every: Duration,
        now: DateTime<Utc>,
        demand: Demand,
    ) -> (Self, Lease) {
        if let Some(wait) = self.wait_until.and_then(|until| ahead(now, until)) {
            return (*self, self.nothing(Outlook::Waiting(wait)));
        }
        if self.unauthorized_since.is_none() {
            return self.grant(rate, now, demand, Outlook::Open);
        }
        if let Some(wait) = self.next_probe_at.and_then(|at| ahead(now, at)) {
            return (*self, self.nothing(Outlook::Refused(wait)));
        }
        if demand == Demand::default() {
            // Only looking: the probe is for whoever has a call to make.
            return (*self, self.nothing(Outlook::ProbeDue));
        }
        let (mut after, lease) = self.grant(rate, now, [1, 0, 0, 0, 0], Outlook::Probe);
        if lease.calls == 0 {
            return (
                after,
                Lease {
                    outlook: Outlook::Refused(lease.more_in),
                    ..lease
                },
            );
        }
        after.next_probe_at =
            Some(now + TimeDelta::from_std(probe_every).unwrap_or(TimeDelta::MAX));
        // Whatever was taken ahead is spent: a probe is one call.
        (after, Lease { calls: 1, ..lease })
    }

    fn grant(
        &self,
        rate: &Rate,
        now: DateTime<Utc>,
        demand: Demand,
        outlook: Outlook,
    ) -> (Self, Lease) {
        let taken = rate.take(self.bucket, now, demand);
        let lease = Lease {
            calls: taken.calls,
            more_in: taken.more_in,
            outlook,
            calls_left: taken.bucket.calls_left,
        };
        (
            Self {
                bucket: taken.bucket,
                ..*self
            },
            lease,
        )
    }

    fn nothing(&self, outlook: Outlook) -> Lease {
        Lease {
            calls: 0,
            more_in: Duration::ZERO,
            outlook,
            calls_left: self.bucket.calls_left,
        }
    }
}

/// The time from `now` to a later moment.
fn ahead(now: DateTime<Utc>, moment: DateTime<Utc>) -> Option<Duration> {
    (moment - now).to_std().ok().filter(|wait| !wait.is_zero())
}

#[cfg(test)]
#[path = "fleet_tests.rs"]
mod tests;
