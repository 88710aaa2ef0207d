#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

use std::num::NonZeroU32;

use proptest::prelude::*;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn rate() -> Rate {
    Rate::new(NonZeroU32::new(400).unwrap(), &Timing::PRODUCTION)
}

fn at(milliseconds: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::milliseconds(milliseconds)
}

fn calm() -> Fleet {
    Fleet {
        bucket: Bucket {
            calls_left: 28.0,
            counted_at: at(0),
        },
        wait_until: None,
        unauthorized_since: None,
        next_probe_at: None,
    }
}

#[test]
fn nobody_calls_while_polar_asks_to_wait() {
    let fleet = Fleet {
        wait_until: Some(at(60_000)),
        ..calm()
    };
    let (after, grant) = fleet.grant(&rate(), MINUTE, at(59_000), [0, 5, 0, 0, 0]);
    assert_eq!(
        (grant.calls, grant.outlook, after),
        (0, Outlook::Waiting(Duration::from_secs(1)), fleet)
    );
    let (_, grant) = fleet.grant(&rate(), MINUTE, at(60_000), [0, 5, 0, 0, 0]);
    assert_eq!((grant.calls > 0, grant.outlook), (true, Outlook::Open));
}

#[test]
fn a_look_without_a_call_to_make_does_not_spend_the_probe() {
    let fleet = Fleet {
        unauthorized_since: Some(at(0)),
        next_probe_at: Some(at(1)),
        ..calm()
    };
    let (after, grant) = fleet.grant(&rate(), MINUTE, at(2), Demand::default());
    assert_eq!(
        (grant.calls, grant.outlook, after),
        (0, Outlook::ProbeDue, fleet)
    );
}

proptest! {
    #[test]
    fn a_refused_token_is_tried_by_one_call_a_minute(pauses in prop::collection::vec(0i64..20_000, 1..200), wanted in 1u32..50) {
        let mut fleet = Fleet { unauthorized_since: Some(at(0)), next_probe_at: Some(at(60_000)), ..calm() };
        let (mut now, mut probes) = (0, Vec::new());
        for pause in pauses {
            now += pause;
            let (after, grant) = fleet.grant(&rate(), MINUTE, at(now), [0, wanted, 0, 0, 9]);
            match grant.outlook {
                Outlook::Probe => {
                    prop_assert_eq!(grant.calls, 1);
                    prop_assert!(after.bucket.calls_left <= fleet.bucket.calls_left + 6.0 * pause as f64);
                    probes.push(now);
                }
                Outlook::Refused(wait) => {
                    prop_assert_eq!(grant.calls, 0);
                    prop_assert_eq!(Some(at(now) + wait), fleet.next_probe_at);
                }
                other => prop_assert!(false, "{other:?} with a refused token"),
            }
            fleet = after;
        }
        prop_assert!(probes.first().is_none_or(|first| *first >= 60_000));
        prop_assert!(probes.windows(2).all(|pair| pair[1] - pair[0] >= 60_000));
    }
}
