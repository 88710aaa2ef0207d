//! What this process believes about our token, and when it asks the fleet again.
//!
//! A refused token is the fleet's matter: the row says who may try it, once a minute. This is only
//! what one process remembers of it between two looks. Pure: the moment is always given.

use std::time::{Duration, Instant};

use super::Timing;
use super::fleet::Outlook;

/// What this process believes about our token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Authorization {
    /// Polar takes it.
    Good,
    /// Polar refuses it; worth asking the fleet again at `ask_at`.
    Refused {
        /// When.
        ask_at: Instant,
    },
    /// Polar refused it, and the next call is the fleet's probe, unless another process was faster:
    /// that is looked at again at `look_at`. Looking must hold no call back. A job that is told to
    /// come back at a moment comes just after it, so it would find the gate shut for ever.
    Due {
        /// When.
        look_at: Instant,
    },
    /// Polar refused it, and a call of this process is the fleet's probe.
    Probing {
        /// Whether the call is under way.
        out: bool,
        /// When the fleet probes next if this one fails.
        next: Instant,
    },
}

/// What the fleet must be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// The token is refused.
    Refused,
    /// The token is taken again.
    Accepted,
}

impl Authorization {
    /// How long nothing goes out because of the token; `None` if something may.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        match self {
            Self::Refused { ask_at } if now < *ask_at => Some(*ask_at - now),
            _ => None,
        }
    }

    /// A call goes out.
    pub(super) fn let_out(&mut self) {
        if let Self::Probing { out, .. } = self {
            *out = true;
        }
    }

    /// The fleet's row was read.
    pub(super) fn learn(&mut self, outlook: Outlook, now: Instant, timing: &Timing) {
        *self = match outlook {
            Outlook::Probe => Self::Probing {
                out: false,
                next: now + timing.authorization_probe,
            },
            Outlook::Refused(probe_in) => Self::Refused {
                ask_at: now + look_again(probe_in, timing),
            },
            Outlook::ProbeDue => Self::Due {
                look_at: now + timing.authorization_probe / 12,
            },
            Outlook::Open => Self::Good,
            Outlook::Waiting(_) => return,
        }
    }

    /// Polar refused the token.
    pub(super) fn refused(&mut self, now: Instant, timing: &Timing) -> Option<News> {
        match *self {
            Self::Good => {
                *self = Self::Refused {
                    ask_at: now + timing.authorization_probe,
                };
                Some(News::Refused)
            }
            Self::Probing { next, .. } => {
                *self = Self::Refused { ask_at: next };
                None
            }
            // A call from before; the fleet knows.
            Self::Refused { .. } | Self::Due { .. } => None,
        }
    }

    /// Polar took the token.
    pub(super) fn accepted(&mut self) -> Option<News> {
        let Self::Probing { out: true, .. } = self else {
            return None;
        };
        *self = Self::Good;
        Some(News::Accepted)
    }

    /// A call ended without telling anything about the token: if it was the probe, the next one
    /// comes in its own time.
    pub(super) fn untold(&mut self) {
        if let Self::Probing { next, .. } = *self {
            *self = Self::Refused { ask_at: next };
        }
    }
}

/// Right after somebody began a probe its answer is near; later there is nothing to see before
/// the next one.
fn look_again(probe_in: Duration, timing: &Timing) -> Duration {
    let answered_by = timing
        .authorization_probe
        .saturating_sub(timing.authorization_answer);
    if probe_in > answered_by {
        probe_in.min(timing.authorization_answer / 2)
    } else {
        probe_in
    }
}
