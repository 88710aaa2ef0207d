//! What this process believes about our token and its scopes, and when it is tried again.
//!
//! A refused token is the fleet's matter: the fleet's row says who may try it, once a minute, and
//! this is only what one process remembers of it between two looks. A missing scope concerns only the
//! calls that need it, so each process finds out for itself, with one of them a minute. Pure: the
//! moment is always given.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use polar::{Rejected, RejectedReason};

use super::fleet::{Outlook, TokenReport};
use super::settings::Timing;

/// What this process believes about our token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenStatus {
    /// Polar takes it.
    Valid,
    /// Polar refuses it; worth asking the fleet again at `ask_at`.
    Refused {
        /// When.
        ask_at: Instant,
    },
    /// Polar refused it, and the next call is preceded by the fleet's probe, unless another process
    /// was faster: that is looked at again at `look_at`. Looking must hold no call back. A job that
    /// is given a moment to come back comes just after it, so it would be rejected for ever.
    Due {
        /// When.
        look_at: Instant,
    },
    /// Polar refused it, and this process makes the fleet's probe.
    Probing {
        /// Whether it is under way.
        sent: bool,
        /// When the fleet probes next if this one fails.
        next: Instant,
    },
}

impl TokenStatus {
    /// How long nothing goes out because of the token; `None` if something may.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        match self {
            Self::Refused { ask_at } if now < *ask_at => Some(*ask_at - now),
            _ => None,
        }
    }

    /// The probe goes out.
    pub(super) fn probe_sent(&mut self) {
        if let Self::Probing { sent, .. } = self {
            *sent = true;
        }
    }

    /// The fleet's row was read.
    pub(super) fn learn(&mut self, outlook: Outlook, now: Instant, timing: &Timing) {
        *self = match outlook {
            Outlook::Probe => Self::Probing {
                sent: false,
                next: now + timing.token_probe_interval,
            },
            Outlook::Refused(probe_in) => Self::Refused {
                ask_at: now + worth_asking_in(probe_in, timing),
            },
            Outlook::ProbeDue => Self::Due {
                look_at: now + timing.token_probe_interval / 12,
            },
            Outlook::Open => Self::Valid,
            Outlook::Waiting(_) => return,
        }
    }

    /// Polar refused the token.
    pub(super) fn refused(&mut self, now: Instant, timing: &Timing) -> Option<TokenReport> {
        match *self {
            Self::Valid => {
                *self = Self::Refused {
                    ask_at: now + timing.token_probe_interval,
                };
                Some(TokenReport::Refused)
            }
            Self::Probing { sent: true, next } => {
                *self = Self::Refused { ask_at: next };
                None
            }
            // A call from before; the fleet knows.
            Self::Probing { .. } | Self::Refused { .. } | Self::Due { .. } => None,
        }
    }

    /// Polar took the token of a probe.
    pub(super) fn accepted(&mut self) -> Option<TokenReport> {
        let Self::Probing { sent: true, .. } = self else {
            return None;
        };
        *self = Self::Valid;
        Some(TokenReport::Accepted)
    }

    /// A probe ended without telling anything about the token, or nobody was there any more to make
    /// it: the next one comes in its own time.
    pub(super) fn unanswered(&mut self) {
        if let Self::Probing { next, .. } = *self {
            *self = Self::Refused { ask_at: next };
        }
    }
}

/// Right after a probe began its answer is near; later there is nothing to see before the next one.
fn worth_asking_in(probe_in: Duration, timing: &Timing) -> Duration {
    let answered_by = timing
        .token_probe_interval
        .saturating_sub(timing.token_probe_timeout);
    if probe_in > answered_by {
        probe_in.min(timing.token_probe_timeout / 2)
    } else {
        probe_in
    }
}

/// The scopes that the token lacks, each with the moment of its next probe.
#[derive(Debug, Default)]
pub(super) struct MissingScopes(BTreeMap<&'static str, Instant>);

impl MissingScopes {
    /// Why a call that needs `scope` cannot go out; if its time has come, it is the probe.
    pub(super) fn check(
        &mut self,
        scope: Option<&'static str>,
        now: Instant,
        timing: &Timing,
    ) -> Result<(), Rejected> {
        let Some((scope, next)) = scope.and_then(|scope| Some((scope, self.0.get_mut(scope)?)))
        else {
            return Ok(());
        };
        if now >= *next {
            *next = now + timing.token_probe_interval;
            return Ok(());
        }
        Err(Rejected {
            retry_after: worth_asking_in(*next - now, timing),
            reason: RejectedReason::MissingScope(scope),
        })
    }

    /// Polar refused a call for want of `scope`. `true` if that is new.
    pub(super) fn missing(
        &mut self,
        scope: Option<&'static str>,
        now: Instant,
        timing: &Timing,
    ) -> bool {
        let probe_at = now + timing.token_probe_interval;
        scope.is_some_and(|scope| self.0.insert(scope, probe_at).is_none())
    }

    /// Polar answered a call that needs `scope`. `true` if it was missing.
    pub(super) fn granted(&mut self, scope: Option<&'static str>) -> bool {
        scope.is_some_and(|scope| self.0.remove(scope).is_some())
    }
}
