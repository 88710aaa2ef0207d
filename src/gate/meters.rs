//! What the gate shows of itself. No label names a person or an organization.

use metrics::{counter, gauge};
use polar::{Answer, CallClass, HeldReason};

use super::state::State;

/// A call went out.
pub(super) fn went(class: CallClass) {
    counter!("polar_jobs_api_calls_total", "class" => class.as_str()).increment(1);
}

/// A call came back.
pub(super) fn came(answer: Answer) {
    let answer = match answer {
        Answer::Answered => "answered",
        Answer::RateLimited { .. } => "rate_limited",
        Answer::Unauthorized => "unauthorized",
        Answer::Down => "down",
        Answer::Abandoned => "abandoned",
    };
    counter!("polar_jobs_api_answers_total", "answer" => answer).increment(1);
}

/// A call was held back.
pub(super) fn held(class: CallClass, reason: HeldReason) {
    let reason = match reason {
        HeldReason::Budget => "budget",
        HeldReason::RateLimited => "rate_limited",
        HeldReason::Breaker => "breaker",
        HeldReason::Unauthorized => "unauthorized",
    };
    counter!("polar_jobs_api_held_total", "class" => class.as_str(), "reason" => reason)
        .increment(1);
}

/// The fleet's budget was read.
pub(super) fn budget_left(calls: f64) {
    gauge!("polar_jobs_api_budget_left").set(calls);
}

/// Whether calls go out at all.
pub(super) fn state(state: &State) {
    gauge!("polar_jobs_breaker_open").set(f64::from(u8::from(state.is_broken())));
    gauge!("polar_jobs_outward_paused").set(f64::from(u8::from(state.is_refused())));
}
