//! What the limiter shows of itself. No label names a person or an organization.

use metrics::{counter, gauge};
use polar::{Admission, Answer, CallClass, RejectedReason};

/// A call may go out.
pub(super) fn admitted(class: CallClass, admission: Admission) {
    let class = match admission {
        Admission::Call => class,
        Admission::Probe => CallClass::Probe,
    };
    counter!("polar_jobs_api_calls_total", "class" => class.as_str()).increment(1);
}

/// A call came back.
pub(super) fn answered(answer: Answer) {
    let answer = match answer {
        Answer::Answered => "answered",
        Answer::RateLimited { .. } => "rate_limited",
        Answer::Unauthorized => "unauthorized",
        Answer::MissingScope => "missing_scope",
        Answer::Down { .. } => "down",
        Answer::Abandoned => "abandoned",
    };
    counter!("polar_jobs_api_answers_total", "answer" => answer).increment(1);
}

/// A call was rejected.
pub(super) fn rejected(class: CallClass, reason: RejectedReason) {
    counter!("polar_jobs_api_rejected_total", "class" => class.as_str(), "reason" => reason.as_str())
        .increment(1);
}

/// The fleet's budget was read.
pub(super) fn budget_left(calls: f64) {
    gauge!("polar_jobs_api_budget_left").set(calls);
}

/// Whether the token lacks a scope.
pub(super) fn missing_scope(scope: &'static str, missing: bool) {
    gauge!("polar_jobs_missing_scope", "scope" => scope).set(number(missing));
}

/// Whether calls go out at all, and how many are under way.
pub(super) fn state(breaker_open: bool, token_refused: bool, in_flight: u32) {
    gauge!("polar_jobs_breaker_open").set(number(breaker_open));
    gauge!("polar_jobs_outward_paused").set(number(token_refused));
    gauge!("polar_jobs_api_calls_in_flight").set(f64::from(in_flight));
}

fn number(flag: bool) -> f64 {
    f64::from(u8::from(flag))
}
