#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

use chrono::{Datelike, NaiveDate, TimeZone, Timelike};
use proptest::prelude::*;

use super::*;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn next(cron: &str, after: &str) -> DateTime<Utc> {
    Cron::parse(cron).unwrap().next_after(at(after)).unwrap()
}

#[test]
fn the_day_of_week_counts_from_sunday_as_crontab_does() {
    // 2026-11-21 is a Saturday.
    let saturday = "2026-11-21T12:00:00Z";
    for (field, day) in [
        ("0", 22),
        ("7", 22),
        ("sun", 22),
        ("1", 23),
        ("MON", 23),
        ("6", 28),
        ("Sat", 28),
        ("1-5", 23),
        ("5-7", 22),
    ] {
        assert_eq!(
            next(&format!("0 0 * * {field}"), saturday).day(),
            day,
            "{field}"
        );
    }
}

#[test]
fn either_day_field_is_enough_when_both_are_restricted() {
    assert_eq!(
        next("0 0 13 * fri", "2026-11-21T12:00:00Z"),
        at("2026-11-27T00:00:00Z")
    );
    assert_eq!(
        next("0 0 13 * fri", "2026-12-12T00:00:00Z"),
        at("2026-12-13T00:00:00Z")
    );
    // A star with a step is still a star.
    assert_eq!(
        next("0 0 */13 * fri", "2026-11-21T12:00:00Z"),
        at("2026-11-27T00:00:00Z")
    );
    assert_eq!(
        next("0 0 */13 * fri", "2026-11-27T00:00:00Z"),
        at("2027-01-01T00:00:00Z")
    );
}

#[test]
fn the_twenty_ninth_of_february_is_waited_for() {
    assert_eq!(
        next("0 0 29 2 *", "2024-02-29T00:00:00Z"),
        at("2028-02-29T00:00:00Z")
    );
    assert_eq!(
        next("59 23 31 * *", "2026-01-31T23:59:00Z"),
        at("2026-03-31T23:59:00Z")
    );
}

#[test]
fn what_cannot_be_read_is_refused() {
    let bad = [
        "",
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * 32 * *",
        "* * * 13 *",
        "* * * * 8",
        "* * * * x",
        "*/0 * * * *",
        "* * * * */0",
        "* * * * 5-1",
        "5-1 * * * *",
        "? * * * *",
        "* * ? * *",
        "@daily",
        "0 0 30 2 *",
        "a * * * *",
        "1,,2 * * * *",
        "* * * * 1,",
        "-1 * * * *",
    ];
    for text in bad {
        assert!(Cron::parse(text).is_err(), "{text:?} was accepted");
    }
    assert_eq!(Cron::parse("0 0 30 2 *").unwrap_err(), BadCron::Never);
    assert_eq!(Cron::parse("@daily").unwrap_err(), BadCron::Fields(1));
}

/// A field as its text and the values that it stands for.
#[derive(Clone, Debug)]
struct Field {
    text: String,
    values: Vec<u32>,
}

fn field(low: u32, high: u32) -> impl Strategy<Value = Field> {
    let star = Just(Field {
        text: "*".into(),
        values: (low..=high).collect(),
    });
    let point = (low..=high).prop_map(|value| Field {
        text: value.to_string(),
        values: vec![value],
    });
    let range = (low..=high, low..=high, 1..=high).prop_map(move |(a, b, step)| {
        let (a, b) = (a.min(b), a.max(b));
        Field {
            text: format!("{a}-{b}/{step}"),
            values: (a..=b).step_by(step as usize).collect(),
        }
    });
    let steps = (1..=high).prop_map(move |step| Field {
        text: format!("*/{step}"),
        values: (low..=high).step_by(step as usize).collect(),
    });
    let list = prop::collection::btree_set(low..=high, 1..4).prop_map(|values| Field {
        text: values
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(","),
        values: values.into_iter().collect(),
    });
    prop_oneof![star, point, range, steps, list]
}

/// crontab(5), word by word: minute after minute until all fields match.
#[derive(Debug)]
struct Oracle {
    fields: [Field; 5],
}

impl Oracle {
    fn text(&self) -> String {
        self.fields
            .each_ref()
            .map(|field| field.text.as_str())
            .join(" ")
    }

    fn day_matches(&self, day: NaiveDate) -> bool {
        let [_, _, days, months, weekdays] = &self.fields;
        let of_month = days.values.contains(&day.day());
        let of_week = weekdays
            .values
            .contains(&day.weekday().num_days_from_sunday());
        let starred = |field: &Field| field.text.starts_with('*');
        let matches = if starred(days) || starred(weekdays) {
            of_month && of_week
        } else {
            of_month || of_week
        };
        matches && months.values.contains(&day.month())
    }

    fn matches(&self, moment: DateTime<Utc>) -> bool {
        self.fields[0].values.contains(&moment.minute())
            && self.fields[1].values.contains(&moment.hour())
            && self.day_matches(moment.date_naive())
    }

    /// The first match after `moment` and before `horizon`.
    fn next_after(&self, moment: DateTime<Utc>, horizon: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut candidate = moment.with_second(0)?.with_nanosecond(0)? + Duration::minutes(1);
        while candidate < horizon {
            if !self.day_matches(candidate.date_naive()) {
                candidate = (candidate.date_naive() + Duration::days(1))
                    .and_hms_opt(0, 0, 0)?
                    .and_utc();
            } else if self.matches(candidate) {
                return Some(candidate);
            } else {
                candidate += Duration::minutes(1);
            }
        }
        None
    }
}

fn oracle() -> impl Strategy<Value = Oracle> {
    (
        field(0, 59),
        field(0, 23),
        field(1, 31),
        field(1, 12),
        field(0, 6),
    )
        .prop_map(|(a, b, c, d, e)| Oracle {
            fields: [a, b, c, d, e],
        })
}

/// Any second of 2023 to 2033, the edges of months and years more often than chance would.
fn moment() -> impl Strategy<Value = DateTime<Utc>> {
    let any = (0i64..315_532_800)
        .prop_map(|seconds| at("2023-01-01T00:00:00Z") + Duration::seconds(seconds));
    let edge = (2023i32..2033, 1u32..=12, -90i64..90).prop_map(|(year, month, seconds)| {
        Utc.with_ymd_and_hms(year, month, 1, 0, 0, 0).unwrap() + Duration::seconds(seconds)
    });
    (prop_oneof![any, edge], 0i64..1000)
        .prop_map(|(moment, millis)| moment + Duration::milliseconds(millis))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn ticks_come_when_crontab_says(oracle in oracle(), start in moment()) {
        let horizon = start + Duration::days(9 * 366);
        let Ok(cron) = Cron::parse(&oracle.text()) else {
            prop_assert_eq!(oracle.next_after(start, horizon), None, "{} was refused", oracle.text());
            return Ok(());
        };
        let mut moment = start;
        for _ in 0..3 {
            let expected = oracle.next_after(moment, horizon);
            prop_assert_eq!(cron.next_after(moment).filter(|tick| *tick < horizon), expected, "{}", oracle.text());
            let Some(tick) = expected else { break };
            // Looking back from just before the next tick finds this one.
            prop_assert_eq!(cron.latest_until(tick), Some(tick), "{}", oracle.text());
            if let Some(after) = oracle.next_after(tick, horizon) {
                prop_assert_eq!(cron.latest_until(after - Duration::milliseconds(1)), Some(tick), "{}", oracle.text());
            }
            moment = tick;
        }
    }
}
