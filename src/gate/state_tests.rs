#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

use std::num::NonZeroU32;

use polar::CallClass;

use super::*;
use crate::gate::agenda::Step;
use crate::gate::authorization::News;
use crate::gate::budget::Demand;
use crate::gate::fleet::{Lease, Outlook};

const SECOND: Duration = Duration::from_secs(1);

fn state(now: Instant) -> State {
    let timing = Timing::PRODUCTION;
    State::new(
        Rate::new(NonZeroU32::new(400).unwrap(), &timing),
        timing,
        now,
    )
}

/// A state with calls to spend.
fn supplied(now: Instant, calls: u32) -> State {
    let mut state = state(now);
    state.leased(lease(calls, Outlook::Open), now + SECOND, now);
    state
}

fn lease(calls: u32, outlook: Outlook) -> Lease {
    Lease {
        calls,
        more_in: Duration::ZERO,
        outlook,
        calls_left: 9.0,
    }
}

fn reason(state: &State, now: Instant) -> Option<HeldReason> {
    state.held(now).map(|held| held.reason)
}

#[test]
fn a_portion_is_used_once_and_not_after_its_time() {
    let now = Instant::now();
    let mut state = supplied(now, 2);
    assert_eq!([now; 3].map(|now| state.let_out(now)), [true, true, false]);
    let mut late = supplied(now, 2);
    assert!(!late.let_out(now + SECOND));
}

#[test]
fn a_lease_that_crossed_news_is_forgone() {
    let now = Instant::now();
    let mut state = supplied(now, 1);
    assert!(state.let_out(now));
    state.left(Answer::Unauthorized, now);
    state.leased(lease(6, Outlook::Open), now + SECOND, now);
    assert!(!state.let_out(now));
    assert_eq!(reason(&state, now), Some(HeldReason::Unauthorized));
    assert_eq!(
        state.step(now),
        Step::Tell(PendingNews {
            wait_until: None,
            token: Some(News::Refused)
        })
    );
}

#[test]
fn an_answer_429_stops_everything_for_as_long_as_polar_asks() {
    let now = Instant::now();
    let mut state = supplied(now, 5);
    assert!(state.let_out(now));
    state.left(
        Answer::RateLimited {
            retry_after: 60 * SECOND,
        },
        now,
    );
    assert!(!state.let_out(now));
    assert_eq!(
        state.held(now + SECOND),
        Some(Held {
            until: 59 * SECOND,
            reason: HeldReason::RateLimited
        })
    );
    let Step::Tell(news) = state.step(now) else {
        panic!("the fleet is told")
    };
    state.told(news);
    assert_eq!(state.held(now + 60 * SECOND), None);
}

#[test]
fn a_breakers_probe_goes_alone_and_after_the_calls_from_before() {
    let now = Instant::now();
    let mut state = supplied(now, 6);
    assert!([now; 6].iter().all(|now| state.let_out(*now)));
    for _ in 0..5 {
        state.left(Answer::Down, now);
    }
    assert_eq!(reason(&state, now), Some(HeldReason::Breaker));
    let later = now + 5 * SECOND;
    state.leased(lease(3, Outlook::Open), later + SECOND, later);
    assert!(
        !state.let_out(later),
        "a call from before is still under way"
    );
    state.left(Answer::Answered, later);
    assert!(state.is_broken(), "that call was older than the failures");
    assert_eq!([later; 2].map(|now| state.let_out(now)), [true, false]);
    state.left(Answer::Answered, later);
    assert!(state.let_out(later) && !state.is_broken());
}

#[test]
fn a_tokens_probe_goes_alone_and_its_success_is_news() {
    let now = Instant::now();
    let mut state = state(now);
    let _word = [
        state.waiting.join(CallClass::Bulk),
        state.waiting.join(CallClass::Bulk),
    ];
    state.leased(lease(1, Outlook::Probe), now + SECOND, now);
    assert_eq!([now; 2].map(|now| state.let_out(now)), [true, false]);
    assert_eq!(
        state.step(now),
        Step::Sleep(None),
        "nothing is asked until the probe is answered"
    );
    state.left(Answer::Answered, now);
    assert!(!state.is_refused());
    assert_eq!(
        state.step(now),
        Step::Tell(PendingNews {
            wait_until: None,
            token: Some(News::Accepted)
        })
    );
}

#[test]
fn a_failed_probe_waits_for_the_next_minute_without_news() {
    let now = Instant::now();
    for answer in [Answer::Unauthorized, Answer::Down, Answer::Abandoned] {
        let mut state = state(now);
        let _word = state.waiting.join(CallClass::Bulk);
        state.leased(lease(1, Outlook::Probe), now + SECOND, now);
        assert!(state.let_out(now));
        state.left(answer, now + SECOND);
        assert_eq!(
            state.held(now + SECOND),
            Some(Held {
                until: 59 * SECOND,
                reason: HeldReason::Unauthorized
            }),
            "{answer:?}"
        );
        assert_eq!(state.step(now + SECOND), Step::Sleep(None), "{answer:?}");
    }
}

#[test]
fn an_idle_process_looks_whether_the_token_is_taken_again() {
    let now = Instant::now();
    let mut state = state(now);
    state.leased(lease(0, Outlook::Refused(30 * SECOND)), now, now);
    assert_eq!(state.step(now), Step::Sleep(Some(now + 30 * SECOND)));
    assert_eq!(
        state.step(now + 30 * SECOND),
        Step::Lease(Demand::default())
    );
    // Somebody's probe is under way: its answer is near.
    state.leased(
        lease(0, Outlook::Refused(58 * SECOND)),
        now,
        now + 30 * SECOND,
    );
    assert_eq!(
        state.step(now + 30 * SECOND),
        Step::Sleep(Some(now + 35 * SECOND))
    );
}

/// A job that was told when the next try is comes just after that moment: after the look.
#[test]
fn a_look_at_the_time_of_the_probe_holds_back_nobody_who_comes_just_after() {
    let now = Instant::now();
    let mut state = state(now);
    state.leased(lease(0, Outlook::Refused(30 * SECOND)), now, now);
    let due = now + 30 * SECOND;
    assert_eq!(state.step(due), Step::Lease(Demand::default()));
    state.leased(lease(0, Outlook::ProbeDue), due, due);
    assert_eq!(
        state.step(due),
        Step::Sleep(Some(due + 5 * SECOND)),
        "a look in a while is enough"
    );

    let job = due + SECOND / 100;
    assert_eq!(state.held(job), None);
    let _waits = state.waiting.join(CallClass::Entitlement);
    assert!(!state.let_out(job), "the fleet decides who probes");
    assert!(matches!(state.step(job), Step::Lease(demand) if demand != Demand::default()));
    state.leased(lease(1, Outlook::Probe), job + SECOND, job);
    assert!(state.let_out(job));
    state.left(Answer::Answered, job);
    assert_eq!(state.news.token, Some(News::Accepted));
}

#[test]
fn a_look_that_finds_the_fleet_waiting_is_not_repeated_before_the_wait_ends() {
    let now = Instant::now();
    let mut state = state(now);
    state.leased(lease(0, Outlook::Refused(SECOND)), now, now);
    let due = now + SECOND;
    state.leased(lease(0, Outlook::Waiting(20 * SECOND)), due, due);
    assert_eq!(state.step(due), Step::Sleep(Some(due + 20 * SECOND)));
}

#[test]
fn an_urgent_call_does_not_wait_for_the_time_of_a_less_urgent_one() {
    let now = Instant::now();
    let mut state = state(now);
    let _bulk = state.waiting.join(CallClass::Bulk);
    state.leased(
        Lease {
            more_in: 3 * SECOND,
            ..lease(0, Outlook::Open)
        },
        now,
        now,
    );
    assert_eq!(state.step(now), Step::Sleep(Some(now + 3 * SECOND)));
    let _urgent = state.waiting.join(CallClass::Entitlement);
    assert_eq!(state.step(now), Step::Lease([0, 1, 0, 0, 1]));
}

#[test]
fn a_lease_lost_to_others_gives_nothing_and_is_asked_for_again() {
    let now = Instant::now();
    let mut state = state(now);
    let _word = state.waiting.join(CallClass::Entitlement);
    state.leased(lease(1, Outlook::Probe).lost(SECOND), now + SECOND, now);
    assert!(!state.let_out(now), "the probe is somebody else's");
    state.leased(lease(9, Outlook::Open).lost(SECOND), now + SECOND, now);
    assert!(!state.let_out(now));
    assert_eq!(state.step(now), Step::Sleep(Some(now + SECOND)));
    assert_eq!(state.step(now + SECOND), Step::Lease([0, 1, 0, 0, 0]));
}

#[test]
fn without_the_database_no_call_goes_out() {
    let now = Instant::now();
    let mut state = supplied(now, 5);
    state.database_failed(now);
    assert!(!state.let_out(now));
    assert_eq!(
        state.held(now),
        Some(Held {
            until: SECOND,
            reason: HeldReason::Budget
        })
    );
    assert_eq!(state.step(now), Step::Sleep(Some(now + SECOND)));
}
