#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

use std::num::NonZeroU32;

use polar::{CallClass, Subject};

use super::*;
use crate::limiter::budget::Demand;
use crate::limiter::fleet::{BreakerReport, CallGrant, Outlook, TokenReport};
use crate::limiter::refill::Action;

const SECOND: Duration = Duration::from_secs(1);

type State = super::State<()>;

fn state(now: Instant) -> State {
    let limits = Limits {
        per_window: NonZeroU32::new(400).unwrap(),
        in_flight: NonZeroU32::new(6).unwrap(),
    };
    State::new(limits, Timing::PRODUCTION, now)
}

/// A state with calls to spend.
fn supplied(now: Instant, calls: u32) -> State {
    let mut state = state(now);
    state.granted(grant(calls, Outlook::Open), now + SECOND, now);
    state
}

fn grant(calls: u32, outlook: Outlook) -> CallGrant {
    CallGrant {
        calls,
        more_in: Duration::ZERO,
        outlook,
        calls_left: 9.0,
    }
}

fn reason(state: &State, now: Instant) -> Option<RejectedReason> {
    state.rejected(now).map(|rejected| rejected.reason)
}

/// A call that ends at once.
fn call(state: &mut State, answer: Answer, now: Instant) {
    assert_eq!(state.admit(now), Some(Admission::Call));
    state.record(None, Admission::Call, answer, now);
}

fn probe(state: &mut State, answer: Answer, now: Instant) {
    assert_eq!(state.admit(now), Some(Admission::Probe));
    assert_eq!(state.admit(now), None, "a probe goes alone");
    state.record(None, Admission::Probe, answer, now);
}

fn down(subject: &str) -> Answer {
    Answer::Down {
        subject: Some(Subject::of(subject)),
    }
}

const NOBODY_DOWN: Answer = Answer::Down { subject: None };

#[test]
fn a_quota_is_used_once_and_not_after_its_time() {
    let now = Instant::now();
    let mut state = supplied(now, 2);
    let admitted = [now; 3].map(|now| state.admit(now).is_some());
    assert_eq!(admitted, [true, true, false]);
    let mut late = supplied(now, 2);
    assert_eq!(late.admit(now + SECOND), None);
}

#[test]
fn no_more_calls_than_allowed_are_under_way_at_once() {
    let now = Instant::now();
    let mut state = supplied(now, 20);
    let admitted = (0..20).filter(|_| state.admit(now).is_some()).count();
    assert_eq!(admitted, 6);
    let _waits = state.waiting.push(CallClass::Bulk);
    assert_eq!(
        state.next_action(now),
        Action::Sleep(None),
        "there is no place"
    );
    assert_eq!(state.timed_out(now).reason, RejectedReason::InFlight);
    state.record(None, Admission::Call, Answer::Answered, now);
    assert_eq!(
        [now; 2].map(|now| state.admit(now).is_some()),
        [true, false]
    );
}

/// What is granted and not used within a second is lost to the fleet.
#[test]
fn no_more_calls_are_asked_for_than_have_a_place_and_the_urgent_ones_first() {
    let now = Instant::now();
    let mut state = state(now);
    let _waiting: Vec<_> = [(CallClass::Bulk, 9), (CallClass::Mail, 4)]
        .into_iter()
        .flat_map(|(class, calls)| vec![class; calls])
        .map(|class| state.waiting.push(class))
        .collect();
    assert_eq!(state.next_action(now), Action::AskForCalls([0, 0, 4, 0, 2]));
}

#[test]
fn a_grant_that_crossed_a_report_is_forgone() {
    let now = Instant::now();
    let mut state = supplied(now, 1);
    call(&mut state, Answer::Unauthorized, now);
    state.granted(grant(6, Outlook::Open), now + SECOND, now);
    assert_eq!(state.admit(now), None);
    assert_eq!(reason(&state, now), Some(RejectedReason::Unauthorized));
    assert_eq!(
        state.next_action(now),
        Action::Report(Reports {
            token: Some(TokenReport::Refused),
            ..Reports::default()
        })
    );
}

#[test]
fn an_answer_429_stops_everything_for_as_long_as_polar_asks() {
    let now = Instant::now();
    let mut state = supplied(now, 5);
    let waits = Answer::RateLimited {
        retry_after: 60 * SECOND,
    };
    call(&mut state, waits, now);
    assert_eq!(state.admit(now), None);
    assert_eq!(
        state.rejected(now + SECOND),
        Some(Rejected {
            retry_after: 59 * SECOND,
            reason: RejectedReason::RateLimited
        })
    );
    let Action::Report(reports) = state.next_action(now) else {
        panic!("the fleet is informed")
    };
    state.reported(reports);
    assert_eq!(state.rejected(now + 60 * SECOND), None);
}

#[test]
fn failures_of_several_customers_are_put_to_a_probe_whose_failure_is_reported() {
    let now = Instant::now();
    let mut state = supplied(now, 6);
    for subject in ["a", "b", "a", "b", "a"] {
        call(&mut state, down(subject), now);
    }
    assert_eq!((reason(&state, now), state.is_broken()), (None, false));
    probe(&mut state, NOBODY_DOWN, now);
    assert_eq!(reason(&state, now), Some(RejectedReason::Breaker));
    let opened = Reports {
        breaker: Some(BreakerReport::Opened {
            until: now + 5 * SECOND,
        }),
        ..Reports::default()
    };
    assert_eq!(state.next_action(now), Action::Report(opened));
    state.reported(opened);

    let later = now + 5 * SECOND;
    let _waits = [
        state.waiting.push(CallClass::Bulk),
        state.waiting.push(CallClass::Bulk),
    ];
    assert_eq!(
        state.next_action(later),
        Action::AskForCalls([0, 0, 0, 0, 1])
    );
    state.granted(grant(1, Outlook::Open), later + SECOND, later);
    probe(&mut state, Answer::Answered, later);
    assert!(!state.is_broken() && reason(&state, later).is_none());
    let Action::Report(closed) = state.next_action(later) else {
        panic!("the fleet is informed")
    };
    assert_eq!(closed.breaker, Some(BreakerReport::Closed));
}

#[test]
fn a_call_from_before_neither_closes_nor_prolongs_an_open_breaker() {
    let now = Instant::now();
    let mut state = supplied(now, 12);
    let before = [state.admit(now), state.admit(now)];
    assert_eq!(before, [Some(Admission::Call); 2]);
    (0..5).for_each(|_| call(&mut state, NOBODY_DOWN, now));
    probe(&mut state, NOBODY_DOWN, now);
    state.record(None, Admission::Call, Answer::Answered, now);
    state.record(None, Admission::Call, NOBODY_DOWN, now);
    assert!(state.is_broken());
    assert_eq!(
        state
            .rejected(now + SECOND)
            .map(|rejected| rejected.retry_after),
        Some(4 * SECOND)
    );
}

#[test]
fn a_tokens_probe_goes_alone_and_its_success_is_reported() {
    let now = Instant::now();
    let mut state = state(now);
    let _waits = [
        state.waiting.push(CallClass::Bulk),
        state.waiting.push(CallClass::Bulk),
    ];
    state.granted(grant(1, Outlook::Probe), now + SECOND, now);
    assert_eq!(state.admit(now), Some(Admission::Probe));
    assert_eq!(
        state.next_action(now),
        Action::Sleep(None),
        "nothing is asked until the probe is answered"
    );
    // A call from before is older than the probe.
    state.record(None, Admission::Call, Answer::Unauthorized, now);
    state.record(None, Admission::Probe, Answer::Answered, now);
    assert!(!state.is_refused());
    assert_eq!(
        state.next_action(now),
        Action::Report(Reports {
            token: Some(TokenReport::Accepted),
            ..Reports::default()
        })
    );
}

#[test]
fn a_failed_probe_of_the_token_waits_for_the_next_minute_without_a_report() {
    let now = Instant::now();
    for answer in [Answer::Unauthorized, NOBODY_DOWN, Answer::Abandoned] {
        let mut state = state(now);
        let _waits = state.waiting.push(CallClass::Bulk);
        state.granted(grant(1, Outlook::Probe), now + SECOND, now);
        assert_eq!(state.admit(now), Some(Admission::Probe));
        state.record(None, Admission::Probe, answer, now + SECOND);
        assert_eq!(
            state.rejected(now + SECOND),
            Some(Rejected {
                retry_after: 59 * SECOND,
                reason: RejectedReason::Unauthorized
            }),
            "{answer:?}"
        );
        assert_eq!(
            state.next_action(now + SECOND),
            Action::Sleep(None),
            "{answer:?}"
        );
    }
}

#[test]
fn a_missing_scope_holds_back_those_that_need_it_and_is_tried_by_one_of_them_a_minute() {
    let now = Instant::now();
    let mut state = supplied(now, 6);
    let (grants, customers) = (Some("benefits:read"), Some("customers:read"));
    assert_eq!(state.check_scope(grants, now), Ok(()));
    assert_eq!(state.admit(now), Some(Admission::Call));
    state.record(grants, Admission::Call, Answer::MissingScope, now);

    let soon = now + 40 * SECOND;
    assert_eq!(state.check_scope(customers, soon), Ok(()));
    assert_eq!(
        state.check_scope(grants, soon),
        Err(Rejected {
            retry_after: 20 * SECOND,
            reason: RejectedReason::MissingScope("benefits:read")
        })
    );
    let due = now + 60 * SECOND;
    assert_eq!(state.check_scope(grants, due), Ok(()));
    let meanwhile = state.check_scope(grants, due).unwrap_err();
    assert_eq!(
        meanwhile.retry_after,
        5 * SECOND,
        "the probe is answered soon"
    );

    state.granted(grant(6, Outlook::Open), due + SECOND, due);
    assert_eq!(state.admit(due), Some(Admission::Call));
    state.record(grants, Admission::Call, Answer::Answered, due);
    assert_eq!(state.check_scope(grants, due), Ok(()));
    assert_eq!(state.check_scope(grants, due), Ok(()));
    assert_eq!(state.check_scope(None, due), Ok(()));
}

#[test]
fn an_idle_process_looks_whether_the_token_is_taken_again() {
    let now = Instant::now();
    let mut state = state(now);
    state.granted(grant(0, Outlook::Refused(30 * SECOND)), now, now);
    assert_eq!(
        state.next_action(now),
        Action::Sleep(Some(now + 30 * SECOND))
    );
    assert_eq!(
        state.next_action(now + 30 * SECOND),
        Action::AskForCalls(Demand::default())
    );
    // Somebody's probe is under way: its answer is near.
    state.granted(
        grant(0, Outlook::Refused(58 * SECOND)),
        now,
        now + 30 * SECOND,
    );
    assert_eq!(
        state.next_action(now + 30 * SECOND),
        Action::Sleep(Some(now + 35 * SECOND))
    );
}

/// A job that was given the moment of the next try comes just after that moment: after the look.
#[test]
fn a_look_at_the_time_of_the_probe_holds_back_nobody_who_comes_just_after() {
    let now = Instant::now();
    let mut state = state(now);
    state.granted(grant(0, Outlook::Refused(30 * SECOND)), now, now);
    let due = now + 30 * SECOND;
    assert_eq!(
        state.next_action(due),
        Action::AskForCalls(Demand::default())
    );
    state.granted(grant(0, Outlook::ProbeDue), due, due);
    assert_eq!(
        state.next_action(due),
        Action::Sleep(Some(due + 5 * SECOND)),
        "a look in a while is enough"
    );

    let job = due + SECOND / 100;
    assert_eq!(state.rejected(job), None);
    let _waits = state.waiting.push(CallClass::Entitlement);
    assert_eq!(state.admit(job), None, "the fleet decides who probes");
    assert!(
        matches!(state.next_action(job), Action::AskForCalls(demand) if demand != Demand::default())
    );
    state.granted(grant(1, Outlook::Probe), job + SECOND, job);
    probe(&mut state, Answer::Answered, job);
    assert_eq!(state.reports.token, Some(TokenReport::Accepted));
}

#[test]
fn a_look_that_finds_the_fleet_waiting_is_not_repeated_before_the_wait_ends() {
    let now = Instant::now();
    let mut state = state(now);
    state.granted(grant(0, Outlook::Refused(SECOND)), now, now);
    let due = now + SECOND;
    state.granted(grant(0, Outlook::Waiting(20 * SECOND)), due, due);
    assert_eq!(
        state.next_action(due),
        Action::Sleep(Some(due + 20 * SECOND))
    );
}

#[test]
fn an_urgent_call_does_not_wait_for_the_time_of_a_less_urgent_one() {
    let now = Instant::now();
    let mut state = state(now);
    let _bulk = state.waiting.push(CallClass::Bulk);
    state.granted(
        CallGrant {
            more_in: 3 * SECOND,
            ..grant(0, Outlook::Open)
        },
        now,
        now,
    );
    assert_eq!(
        state.next_action(now),
        Action::Sleep(Some(now + 3 * SECOND))
    );
    let _urgent = state.waiting.push(CallClass::Entitlement);
    assert_eq!(state.next_action(now), Action::AskForCalls([0, 1, 0, 0, 1]));
}

#[test]
fn a_grant_lost_to_others_gives_nothing_and_is_asked_for_again() {
    let now = Instant::now();
    let mut state = state(now);
    let _word = state.waiting.push(CallClass::Entitlement);
    state.granted(grant(1, Outlook::Probe).lost(SECOND), now + SECOND, now);
    assert_eq!(state.admit(now), None, "the probe is somebody else's");
    state.granted(grant(9, Outlook::Open).lost(SECOND), now + SECOND, now);
    assert_eq!(state.admit(now), None);
    assert_eq!(state.next_action(now), Action::Sleep(Some(now + SECOND)));
    assert_eq!(
        state.next_action(now + SECOND),
        Action::AskForCalls([0, 1, 0, 0, 0])
    );
}

#[test]
fn without_the_database_no_call_goes_out() {
    let now = Instant::now();
    let mut state = supplied(now, 5);
    state.database_failed(now);
    assert_eq!(state.admit(now), None);
    assert_eq!(
        state.rejected(now),
        Some(Rejected {
            retry_after: SECOND,
            reason: RejectedReason::BudgetUnknown
        })
    );
    assert_eq!(state.next_action(now), Action::Sleep(Some(now + SECOND)));
}

/// A budget that is used up needs a lower rate; one that cannot be read needs a look at the database.
#[test]
fn whoever_waits_while_the_database_is_asked_again_is_not_told_that_the_budget_is_used_up() {
    let now = Instant::now();
    let mut state = state(now);
    let _waits = state.waiting.push(CallClass::Bulk);
    assert_eq!(state.timed_out(now).reason, RejectedReason::Budget);
    state.database_failed(now);
    let asked_again = now + SECOND;
    assert!(matches!(
        state.next_action(asked_again),
        Action::AskForCalls(_)
    ));
    let rejected = state.timed_out(asked_again);
    assert_eq!(rejected.reason, RejectedReason::BudgetUnknown);
    state.granted(grant(0, Outlook::Open), asked_again, asked_again);
    assert_eq!(state.timed_out(asked_again).reason, RejectedReason::Budget);
}
