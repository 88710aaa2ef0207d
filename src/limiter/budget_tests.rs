#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

use std::time::Duration as StdDuration;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::*;

fn rate(limit: u32) -> Rate {
    Rate::new(NonZeroU32::new(limit).unwrap(), &Timing::PRODUCTION)
}

fn at(milliseconds: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + Duration::milliseconds(milliseconds)
}

fn full(rate: &Rate) -> Bucket {
    Bucket {
        calls_left: rate.burst,
        counted_at: at(0),
    }
}

/// The most moments within any stretch of `length` milliseconds, both ends included.
fn densest(mut moments: Vec<i64>, length: i64) -> usize {
    moments.sort_unstable();
    let mut first = 0;
    (0..moments.len())
        .map(|last| {
            while moments[last] - moments[first] > length {
                first += 1;
            }
            last - first + 1
        })
        .max()
        .unwrap_or(0)
}

/// A process asks after a pause in milliseconds; at worst for more than there is, again and again.
fn ask() -> impl Strategy<Value = (i64, Demand)> {
    let pause = prop_oneof![Just(0), 0i64..500, 0i64..2_000];
    let demand = prop_oneof![Just([0, 10_000, 0, 0, 0]), prop::array::uniform5(0u32..60),];
    (pause, demand)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Polar counts a call between its grant and the end of quota's life and travel, 2 s later. At worst
    /// it counts within its window all that was granted in a time longer by as much.
    #[test]
    fn no_window_ever_sees_more_than_the_limit(
        limit in prop_oneof![1u32..40, 40u32..7_000],
        asks in prop::collection::vec(ask(), 1..400),
    ) {
        stays_within(limit, asks)?;
    }

    #[test]
    fn a_class_leaves_the_reserve_of_those_above_it(limit in 1u32..7_000, level in 0.0f64..1.0, class in 0usize..5, wanted in 1u32..10_000) {
        let rate = rate(limit);
        let bucket = Bucket { calls_left: rate.burst * level, counted_at: at(0) };
        let mut demand = Demand::default();
        demand[class] = wanted;
        let taken = rate.take(bucket, at(0), demand);
        let reserve = rate.reserve(CLASSES[class].1);
        prop_assert!(taken.calls == 0 || taken.bucket.calls_left >= reserve.min(rate.reserve(0.6)) - 1e-9);
        prop_assert!(taken.more_in.is_zero() == (taken.calls >= wanted));
    }

    #[test]
    fn demand_is_met_when_it_was_said_to_be(limit in 1u32..7_000, level in 0.0f64..1.0, class in 0usize..5) {
        let rate = rate(limit);
        let bucket = Bucket { calls_left: rate.burst * level, counted_at: at(0) };
        let mut demand = Demand::default();
        demand[class] = u32::MAX;
        let taken = rate.take(bucket, at(0), demand);
        let later = at(0) + Duration::from_std(taken.more_in + StdDuration::from_millis(1)).unwrap();
        prop_assert!(rate.take(taken.bucket, later, demand).calls >= 1);
    }
}

fn stays_within(limit: u32, asks: Vec<(i64, Demand)>) -> Result<(), TestCaseError> {
    let rate = rate(limit);
    let mut bucket = full(&rate);
    let (mut now, mut granted) = (0, Vec::new());
    for (pause, demand) in asks {
        now += pause;
        let taken = rate.take(bucket, at(now), demand);
        bucket = taken.bucket;
        granted.extend((0..taken.calls).map(|_| now));
        prop_assert!((0.0..=rate.burst).contains(&bucket.calls_left));
    }
    prop_assert!(
        densest(granted.clone(), 62_000) <= limit as usize,
        "too many in a window"
    );
    prop_assert!(
        densest(granted, 2_000) <= (limit as usize / 10).max(1),
        "the burst is too large"
    );
    Ok(())
}

/// What a second refills must not come on top of a whole burst.
#[test]
fn two_bursts_a_second_apart_stay_within_one() {
    let everything = [0, 10_000, 0, 0, 0];
    stays_within(287, vec![(0, everything), (1_070, everything)]).unwrap();
}

#[test]
fn the_steady_rate_is_nine_tenths_of_the_limit() {
    for limit in [1, 10, 60, 400, 6_000] {
        let rate = rate(limit);
        let mut bucket = full(&rate);
        let mut calls = 0;
        for tenth in 0..36_000 {
            let taken = rate.take(bucket, at(tenth * 100), [0, 0, 0, 0, u32::MAX]);
            bucket = taken.bucket;
            calls += taken.calls;
        }
        let expected = f64::from(limit) * 54.0;
        assert!(
            (expected * 0.99 - 1.0..expected * 1.01 + rate.burst + 1.0).contains(&f64::from(calls)),
            "{limit}: {calls}"
        );
    }
}

#[test]
fn the_urgent_go_first_and_bulk_takes_what_is_left_over() {
    let rate = rate(400);
    // 28 calls in the bucket: all that entitlements want, then mail, and nothing for the others.
    let taken = rate.take(full(&rate), at(0), [0, 10, 5, 5, 50]);
    assert_eq!(
        (taken.calls, taken.bucket.calls_left.round() as u32),
        (17, 11)
    );
    let only_bulk = rate.take(full(&rate), at(0), [0, 0, 0, 0, 50]);
    assert_eq!(only_bulk.calls, 11);
    assert_eq!(
        rate.take(only_bulk.bucket, at(0), [0, 50, 0, 0, 0]).calls,
        17
    );
}

#[test]
fn a_lone_call_takes_a_few_ahead_only_while_there_is_plenty() {
    let rate = rate(400);
    assert_eq!(rate.take(full(&rate), at(0), [0, 1, 0, 0, 0]).calls, 6);
    let scarce = Bucket {
        calls_left: 10.0,
        counted_at: at(0),
    };
    assert_eq!(rate.take(scarce, at(0), [0, 1, 0, 0, 0]).calls, 1);
    assert_eq!(rate.take(full(&rate), at(0), Demand::default()).calls, 0);
}

#[test]
fn a_clock_set_back_neither_gives_calls_nor_stops_them_for_long() {
    let rate = rate(400);
    let bucket = Bucket {
        calls_left: 3.0,
        counted_at: at(100_000),
    };
    assert_eq!(rate.refilled(bucket, at(90_000)), bucket);
    let begun_anew = rate.refilled(
        Bucket {
            counted_at: at(10_000_000),
            ..bucket
        },
        at(0),
    );
    assert_eq!(
        begun_anew,
        Bucket {
            calls_left: 0.0,
            counted_at: at(0)
        }
    );
    assert_eq!(rate.take(begun_anew, at(1_000), [0, 50, 0, 0, 0]).calls, 6);
}
