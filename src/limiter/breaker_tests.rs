#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

use proptest::prelude::*;

use super::*;

const FIRST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(60);

fn breaker() -> Breaker {
    Breaker::new(FIRST, LONGEST)
}

fn subject(number: usize) -> Option<Subject> {
    Some(Subject::of(&number.to_string()))
}

/// Opened at `now`.
fn open(now: Instant) -> Breaker {
    let mut breaker = breaker();
    (0..5).for_each(|number| breaker.failed(subject(number)));
    breaker.probe_sent();
    assert_eq!(breaker.probe_failed(now), Change::Opened(FIRST));
    breaker
}

#[test]
fn five_failures_in_a_row_and_a_failed_probe_open_it() {
    let now = Instant::now();
    let mut breaker = breaker();
    for _ in 0..20 {
        (0..4).for_each(|number| breaker.failed(subject(number)));
        breaker.succeeded();
    }
    assert_eq!(breaker.passage(now), Passage::Free);
    (0..5).for_each(|number| breaker.failed(subject(number)));
    assert_eq!(
        (breaker.passage(now), breaker.is_open()),
        (Passage::Probe, false)
    );
    breaker.probe_sent();
    assert_eq!(breaker.passage(now), Passage::Probing);
    assert_eq!(breaker.probe_failed(now), Change::Opened(FIRST));
    assert_eq!(breaker.passage(now), Passage::Shut(FIRST));
}

#[test]
fn what_keeps_to_one_subject_is_that_subjects_own() {
    let mut breaker = breaker();
    (0..1000).for_each(|_| breaker.failed(subject(7)));
    assert_eq!(breaker.passage(Instant::now()), Passage::Free);
    // Somebody else fails as well: now it may be Polar.
    breaker.failed(subject(8));
    assert_eq!(breaker.passage(Instant::now()), Passage::Probe);
}

#[test]
fn failures_about_nobody_in_particular_count_alone() {
    let mut breaker = breaker();
    (0..5).for_each(|_| breaker.failed(None));
    assert_eq!(breaker.passage(Instant::now()), Passage::Probe);
}

#[test]
fn two_broken_customers_never_open_it_while_probes_are_answered() {
    let now = Instant::now();
    let mut breaker = breaker();
    for failure in 0..1000 {
        breaker.failed(subject(failure % 2));
        if breaker.passage(now) == Passage::Probe {
            breaker.probe_sent();
            assert_eq!(breaker.probe_succeeded(), Change::None);
        }
        assert_eq!(
            (breaker.passage(now), breaker.is_open()),
            (Passage::Free, false)
        );
    }
}

#[test]
fn an_answered_probe_closes_it_and_the_count_begins_anew() {
    let now = Instant::now();
    let mut breaker = open(now);
    assert_eq!(breaker.passage(now + FIRST), Passage::Probe);
    breaker.probe_sent();
    // Calls from before the opening say nothing.
    breaker.succeeded();
    breaker.failed(None);
    assert_eq!(breaker.passage(now + FIRST), Passage::Probing);
    assert_eq!(breaker.probe_succeeded(), Change::Closed);
    (0..4).for_each(|number| breaker.failed(subject(number)));
    assert_eq!(breaker.passage(now + FIRST), Passage::Free);
}

#[test]
fn the_time_between_probes_grows_from_five_to_sixty_seconds() {
    let mut now = Instant::now();
    let mut breaker = open(now);
    let mut waits = Vec::new();
    for _ in 0..6 {
        let Passage::Shut(wait) = breaker.passage(now) else {
            panic!("it is open")
        };
        waits.push(wait.as_secs());
        now += wait;
        breaker.probe_sent();
        breaker.probe_failed(now);
    }
    assert_eq!(waits, [5, 10, 20, 40, 60, 60]);
}

#[test]
fn an_abandoned_probe_is_followed_by_another_at_once() {
    let now = Instant::now();
    let mut breaker = open(now);
    breaker.probe_sent();
    breaker.probe_abandoned(now + FIRST);
    assert_eq!(breaker.passage(now + FIRST), Passage::Probe);
}

proptest! {
    /// Whatever happens: only a failed probe opens it, only an answered one closes it, and an open
    /// breaker lets out one probe at a time, never two within five seconds unless one was abandoned.
    #[test]
    fn only_probes_open_and_close_it(events in prop::collection::vec((0u8..6, 0usize..3, 0u64..8_000), 1..300)) {
        let mut now = Instant::now();
        let mut breaker = breaker();
        let (mut in_a_row, mut probing) = (Vec::new(), false);
        for (event, about, pause) in events {
            now += Duration::from_millis(pause);
            let (was_open, was_free) = (breaker.is_open(), breaker.passage(now) == Passage::Free);
            match event {
                0 => {
                    breaker.failed(subject(about));
                    in_a_row.push(about);
                    let several = in_a_row.iter().any(|other| *other != in_a_row[0]);
                    if was_free {
                        let suspicious = in_a_row.len() >= 5 && several;
                        prop_assert_eq!(breaker.passage(now) == Passage::Free, !suspicious);
                    }
                    prop_assert_eq!(breaker.is_open(), was_open);
                }
                1 => {
                    breaker.succeeded();
                    prop_assert_eq!(breaker.is_open(), was_open);
                    if was_free { in_a_row.clear(); }
                }
                2 if breaker.passage(now) == Passage::Probe => {
                    prop_assert!(!probing);
                    breaker.probe_sent();
                    prop_assert_eq!(breaker.passage(now), Passage::Probing);
                    probing = true;
                }
                3 if probing => {
                    let closed = breaker.probe_succeeded() == Change::Closed;
                    prop_assert_eq!(closed, was_open);
                    prop_assert_eq!(breaker.passage(now), Passage::Free);
                    in_a_row.clear();
                    probing = false;
                }
                4 if probing => {
                    let opened = breaker.probe_failed(now);
                    prop_assert!(matches!(opened, Change::Opened(delay) if delay >= FIRST && delay <= LONGEST));
                    prop_assert!(matches!(breaker.passage(now), Passage::Shut(wait) if wait >= FIRST));
                    probing = false;
                }
                5 if probing => {
                    breaker.probe_abandoned(now);
                    prop_assert_eq!(breaker.passage(now), Passage::Probe);
                    probing = false;
                }
                _ => {}
            }
            if probing {
                prop_assert_eq!(breaker.passage(now), Passage::Probing);
            }
        }
    }
}
