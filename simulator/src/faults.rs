//! The promises are about failures. Seeded dice decide which call or delivery meets which fault, so that the same run
//! can be had again.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use thiserror::Error;

/// How often which fault happens.
///
/// As text (`--faults SPEC`), items separated by commas, later ones winning:
///
/// | Item | Meaning |
/// |---|---|
/// | `0.2` or `20%` | `calls` and `deliveries` both at that rate |
/// | `calls=R` | that share of API calls fails, all six kinds mixed evenly |
/// | `deliveries=R` | that share of deliveries fails, all four kinds mixed evenly |
/// | `429=R` | refused with 429 and `retry-after` before anything happened |
/// | `500-before=R`, `500-after=R` | 500 with nothing committed; 500 although it was committed |
/// | `timeout=R` | held for `timeout-ms`, then the connection closes; committed or not, by chance |
/// | `drop-before=R`, `drop-after=R` | the connection closes without an answer; nothing committed; committed |
/// | `duplicate=R` | an answered delivery comes again, with the same id |
/// | `reorder=R`, `late=R` | a delivery steps aside for seconds; for half a minute or more |
/// | `lost=R` | an attempt is not made, or its answer is not read; the retry schedule applies |
/// | `timeout-ms=N` | how long a timeout holds a call; 6000 unless given |
/// | `retry-after=N` | seconds named by an injected 429; 1 unless given (the real limit always says 60) |
/// | `retry-scale=F` | factor on all waits between delivery attempts; 1 unless given |
///
/// Rates `R` are from 0 to 1 or percentages. Empty text, or `none`, is a run without faults.
#[derive(Debug, Clone, PartialEq)]
pub struct Faults {
    /// Share of calls refused with 429.
    pub too_many_requests: f64,
    /// Share of calls answered 500 with nothing committed.
    pub error_before: f64,
    /// Share of calls answered 500 after the commit.
    pub error_after: f64,
    /// Share of calls held for `timeout_hold`, then cut.
    pub timeout: f64,
    /// Share of calls whose connection is cut before the commit.
    pub drop_before: f64,
    /// Share of calls whose connection is cut after the commit.
    pub drop_after: f64,
    /// Share of deliveries sent twice.
    pub duplicate: f64,
    /// Share of deliveries that later ones overtake.
    pub reorder: f64,
    /// Share of deliveries that come half a minute late or more (times `retry_scale`).
    pub late: f64,
    /// Share of attempts that are not made or whose answer is not read.
    pub lost: f64,
    /// How long a timeout holds a call.
    pub timeout_hold: Duration,
    /// Seconds that an injected 429 asks to wait.
    pub retry_after: u32,
    /// Factor on the waits between delivery attempts.
    pub retry_scale: f64,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            too_many_requests: 0.0,
            error_before: 0.0,
            error_after: 0.0,
            timeout: 0.0,
            drop_before: 0.0,
            drop_after: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            late: 0.0,
            lost: 0.0,
            timeout_hold: Duration::from_secs(6),
            retry_after: 1,
            retry_scale: 1.0,
        }
    }
}

/// What the rates are called in a specification, in the order of their fields: calls, then deliveries.
pub(crate) const NAMES: [&str; 10] = [
    "429",
    "500-before",
    "500-after",
    "timeout",
    "drop-before",
    "drop-after",
    "duplicate",
    "reorder",
    "late",
    "lost",
];

/// Why a fault specification is not understood.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FaultsError {
    /// The key is none of those listed at [`Faults`].
    #[error("unknown fault `{0}`; known: calls, deliveries, {names}, timeout-ms, retry-after, retry-scale", names = NAMES.join(", "))]
    UnknownKey(String),
    /// The value is no rate from 0 to 1 (or 0% to 100%).
    #[error("`{key}={value}`: a rate is a number from 0 to 1, or a percentage from 0% to 100%")]
    Rate {
        /// The key as written.
        key: String,
        /// The value as written.
        value: String,
    },
    /// The value is no number of the kind the key takes.
    #[error("`{key}={value}`: {key} takes a number that is not negative")]
    Number {
        /// The key as written.
        key: String,
        /// The value as written.
        value: String,
    },
    /// The shares of the kinds exceed the whole.
    #[error("the rates of all {0} together exceed 1")]
    TooMuch(&'static str),
}

impl Faults {
    /// The fault of a call, if any.
    pub(crate) fn roll_call(&self, dice: &mut StdRng) -> Option<CallFault> {
        let timeout = if dice.random_bool(0.5) {
            CallFault::TimeoutBefore
        } else {
            CallFault::TimeoutAfter
        };
        let chances = [
            (self.too_many_requests, CallFault::TooManyRequests),
            (self.error_before, CallFault::ErrorBefore),
            (self.error_after, CallFault::ErrorAfter),
            (self.timeout, timeout),
            (self.drop_before, CallFault::DropBefore),
            (self.drop_after, CallFault::DropAfter),
        ];
        roll(dice, &chances)
    }

    /// Whether a delivery steps out of the line before its first attempt.
    pub(crate) fn roll_departure(&self, dice: &mut StdRng) -> Option<DeliveryFault> {
        roll(
            dice,
            &[
                (self.reorder, DeliveryFault::Reorder),
                (self.late, DeliveryFault::Late),
            ],
        )
    }

    /// What happens to one attempt.
    pub(crate) fn roll_attempt(&self, dice: &mut StdRng) -> Option<DeliveryFault> {
        let lost = if dice.random_bool(0.5) {
            DeliveryFault::NeverSent
        } else {
            DeliveryFault::AnswerLost
        };
        roll(
            dice,
            &[
                (self.lost, lost),
                (self.duplicate, DeliveryFault::Duplicate),
            ],
        )
    }
}

fn roll<T: Copy>(dice: &mut StdRng, chances: &[(f64, T)]) -> Option<T> {
    let mut left = dice.random_range(0.0..1.0);
    for (chance, fault) in chances {
        if left < *chance {
            return Some(*fault);
        }
        left -= chance;
    }
    None
}

/// The fault of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallFault {
    /// 429, nothing committed.
    TooManyRequests,
    /// 500, nothing committed.
    ErrorBefore,
    /// 500, committed.
    ErrorAfter,
    /// Held, then cut; nothing committed.
    TimeoutBefore,
    /// Committed, held, then cut.
    TimeoutAfter,
    /// Cut, nothing committed.
    DropBefore,
    /// Committed, then cut.
    DropAfter,
}

/// The fault of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeliveryFault {
    /// Comes again.
    Duplicate,
    /// Is overtaken.
    Reorder,
    /// Comes late.
    Late,
    /// The attempt is not made.
    NeverSent,
    /// The attempt is made, its answer not read.
    AnswerLost,
}
