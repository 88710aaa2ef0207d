//! The gate's times, in one place, so that tests can live faster than Polar.

use std::time::Duration;

/// How long things take and last at the gate.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// The window in which the budget's calls are counted.
    pub window: Duration,
    /// How long a portion leased from the fleet's budget may be used.
    pub portion: Duration,
    /// The longest that a call may take from here until Polar has counted it; together with
    /// `portion` less than a ninth of `window`.
    pub travel: Duration,
    /// How long a call waits here for budget, or for another's probe, before it is held back.
    pub patience: Duration,
    /// The longest that the database may take for one question.
    pub database: Duration,
    /// After a failure of the database: how long nothing goes out before it is asked again.
    pub database_pause: Duration,
    /// Polar down: from the opening of the breaker to the first probe.
    pub breaker_first: Duration,
    /// Polar down: the longest time between probes.
    pub breaker_longest: Duration,
    /// Token refused: the time between the fleet's probes.
    pub authorization_probe: Duration,
    /// Token refused: the time in which a probe of another process is usually answered. Until
    /// then it is worth asking again soon.
    pub authorization_answer: Duration,
}

impl Timing {
    /// What the contract promises (contract 8).
    pub const PRODUCTION: Self = Self {
        window: Duration::from_secs(60),
        portion: Duration::from_secs(1),
        travel: Duration::from_secs(1),
        patience: Duration::from_secs(5),
        database: Duration::from_secs(2),
        database_pause: Duration::from_secs(1),
        breaker_first: Duration::from_secs(5),
        breaker_longest: Duration::from_secs(60),
        authorization_probe: Duration::from_secs(60),
        authorization_answer: Duration::from_secs(10),
    };
}

impl Default for Timing {
    fn default() -> Self {
        Self::PRODUCTION
    }
}
