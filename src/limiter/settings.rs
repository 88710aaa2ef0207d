//! The limiter's bounds and times, in one place, so that tests can live faster than Polar.

use std::num::NonZeroU32;
use std::time::Duration;

/// How many calls may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// By the whole fleet in any [`Timing::window`].
    pub per_window: NonZeroU32,
    /// At once by this process. Some forty calls at once occupy all of Polar's database connections,
    /// and it answers slowly, or with 5xx, for half a minute.
    pub in_flight: NonZeroU32,
}

/// How long things take and last.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// The window in which the budget's calls are counted.
    pub window: Duration,
    /// How long a quota out of the fleet's budget may be used.
    pub quota_lifetime: Duration,
    /// The longest that a call may take from here until Polar has counted it; together with
    /// `quota_lifetime` less than a ninth of `window`.
    pub travel: Duration,
    /// How long a call waits here for budget, for a place, or for another's probe, before it is
    /// rejected.
    pub acquire_timeout: Duration,
    /// The longest that the database may take for one question.
    pub query_timeout: Duration,
    /// After a failure of the database: how long nothing goes out before it is asked again.
    pub query_retry_delay: Duration,
    /// Polar down: from the opening of the breaker to the first probe.
    pub breaker_first_delay: Duration,
    /// Polar down: the longest time between probes.
    pub breaker_longest_delay: Duration,
    /// Token refused, or a scope missing: the time between probes.
    pub token_probe_interval: Duration,
    /// The time in which such a probe is usually answered. Until then it is worth asking again soon.
    pub token_probe_timeout: Duration,
}

impl Timing {
    /// The times that Polar's own limits and a stop within 30 s ask for.
    pub const PRODUCTION: Self = Self {
        window: Duration::from_secs(60),
        quota_lifetime: Duration::from_secs(1),
        travel: Duration::from_secs(1),
        acquire_timeout: Duration::from_secs(5),
        query_timeout: Duration::from_secs(2),
        query_retry_delay: Duration::from_secs(1),
        breaker_first_delay: Duration::from_secs(5),
        breaker_longest_delay: Duration::from_secs(60),
        token_probe_interval: Duration::from_secs(60),
        token_probe_timeout: Duration::from_secs(10),
    };
}

impl Default for Timing {
    fn default() -> Self {
        Self::PRODUCTION
    }
}
