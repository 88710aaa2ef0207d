#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

use proptest::prelude::*;

use super::*;

const FIRST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(60);

fn breaker() -> Breaker {
    Breaker::new(FIRST, LONGEST)
}

/// Opened at `now`.
fn open(now: Instant) -> Breaker {
    let mut breaker = breaker();
    let opened: Vec<bool> = (0..FAILURES).map(|_| breaker.down(now)).collect();
    assert_eq!(opened, [false, false, false, false, true]);
    breaker
}

#[test]
fn five_failures_in_a_row_open_it_and_a_success_between_them_does_not() {
    let now = Instant::now();
    let mut breaker = breaker();
    for _ in 0..20 {
        for _ in 0..4 {
            breaker.down(now);
        }
        breaker.up();
    }
    assert_eq!(breaker.passage(now), Passage::Free);
    assert_eq!(open(now).passage(now), Passage::Shut(FIRST));
}

#[test]
fn one_call_is_the_probe_and_its_success_closes_it() {
    let now = Instant::now();
    let mut breaker = open(now);
    assert_eq!(breaker.passage(now + FIRST), Passage::Probe);
    breaker.let_out();
    assert_eq!(breaker.passage(now + FIRST), Passage::Probing);
    assert!(breaker.up());
    assert_eq!(breaker.passage(now + FIRST), Passage::Free);
    assert!(!breaker.down(now + FIRST), "the count begins anew");
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
        breaker.let_out();
        breaker.down(now);
    }
    assert_eq!(waits, [5, 10, 20, 40, 60, 60]);
}

#[test]
fn an_abandoned_probe_is_followed_by_another_at_once() {
    let now = Instant::now();
    let mut breaker = open(now);
    breaker.let_out();
    breaker.abandoned(now + FIRST);
    assert_eq!(breaker.passage(now + FIRST), Passage::Probe);
}

proptest! {
    /// Against the contract's words: whatever happens, an open breaker lets out one call at a time,
    /// never two within five seconds unless one was abandoned, and only a probe's success closes it.
    #[test]
    fn an_open_breaker_lets_out_one_call_at_a_time(events in prop::collection::vec((0u8..4, 0u64..8_000), 1..300)) {
        let mut now = Instant::now();
        let mut breaker = breaker();
        let mut in_a_row = 0;
        let mut probing = false;
        for (event, pause) in events {
            now += Duration::from_millis(pause);
            let was_open = breaker.is_open();
            match event {
                0 => {
                    in_a_row += 1;
                    breaker.down(now);
                    prop_assert_eq!(breaker.is_open(), was_open || in_a_row >= FAILURES);
                    if probing {
                        prop_assert!(matches!(breaker.passage(now), Passage::Shut(wait) if wait >= 2 * FIRST && wait <= LONGEST));
                    }
                    probing = false;
                }
                1 => {
                    prop_assert_eq!(breaker.up(), probing);
                    prop_assert_eq!(breaker.is_open(), was_open && !probing);
                    in_a_row = if breaker.is_open() { in_a_row } else { 0 };
                    probing = false;
                }
                2 => {
                    breaker.abandoned(now);
                    prop_assert_eq!(breaker.is_open(), was_open);
                    probing = false;
                }
                _ => {
                    if breaker.passage(now) == Passage::Probe {
                        prop_assert!(was_open && !probing);
                        probing = true;
                    }
                    if matches!(breaker.passage(now), Passage::Probe | Passage::Free) {
                        breaker.let_out();
                        prop_assert_eq!(breaker.passage(now) == Passage::Probing, was_open);
                    }
                }
            }
        }
    }
}
