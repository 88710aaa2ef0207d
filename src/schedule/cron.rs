//! Five cron fields as everybody writes them, in UTC.
//!
//! The library that finds the moments counts days of the week from 1 = Sunday and wants both day
//! fields to match; crontab(5) counts from 0 = Sunday and is content with either when both are
//! restricted. The difference is resolved here, once, where the text is read.

use chrono::{DateTime, Duration, SubsecRound, Utc};

const DAY_NAMES: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// A cron expression that will tick again some day.
#[derive(Clone, Debug)]
pub struct Cron {
    /// One, or two of which either may match: both day fields restricted.
    either: Vec<cron::Schedule>,
}

/// Why a text is no cron expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCron {
    /// Not five fields.
    #[error("five fields are needed (minute, hour, day of month, month, day of week), got {0}")]
    Fields(usize),
    /// A field that cannot be read.
    #[error("{0}")]
    Field(String),
    /// Readable, but no date is like that, such as 30 February.
    #[error("no date matches it")]
    Never,
}

impl Cron {
    /// Reads five fields: lists, ranges, steps and names as in crontab(5); Sunday is 0 or 7.
    ///
    /// # Errors
    /// If the text cannot be read, or would never tick.
    pub fn parse(text: &str) -> Result<Self, BadCron> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(BadCron::Fields(fields.len()));
        };
        if text.contains('?') {
            return Err(BadCron::Field("`?` means nothing here; use `*`".to_owned()));
        }
        let weekdays = weekdays(weekday)?;
        // crontab(5): a day field that starts with a star does not restrict.
        let either_day = !day.starts_with('*') && !weekday.starts_with('*');
        let days = if either_day {
            vec![(day, "*"), ("*", weekdays.as_str())]
        } else {
            vec![(day, weekdays.as_str())]
        };
        let either = days
            .into_iter()
            .map(|(day, weekdays)| format!("0 {minute} {hour} {day} {month} {weekdays}").parse())
            .collect::<Result<Vec<cron::Schedule>, _>>()
            .map_err(|_| {
                BadCron::Field(format!(
                    "a field of `{text}` is out of range or cannot be read"
                ))
            })?;
        let read = Self { either };
        read.next_after(DateTime::UNIX_EPOCH)
            .ok_or(BadCron::Never)?;
        Ok(read)
    }

    /// The first tick after `moment`. `None` only past the last year that the calendar knows.
    #[must_use]
    pub fn next_after(&self, moment: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.either
            .iter()
            .filter_map(|one| one.after(&moment).next())
            .min()
    }

    /// The last tick not after `moment`.
    #[must_use]
    pub fn latest_until(&self, moment: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let second = moment.trunc_subsecs(0) + Duration::seconds(1);
        self.either
            .iter()
            .filter_map(|one| one.after(&second).next_back())
            .max()
    }
}

/// The day-of-week field in the library's counting, spelled out day by day.
fn weekdays(field: &str) -> Result<String, BadCron> {
    let mut days = [false; 7];
    for item in field.split(',') {
        let bad = || BadCron::Field(format!("the day of week `{item}` cannot be read"));
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(step.parse::<usize>().map_err(|_| bad())?)),
            None => (item, None),
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (0, 6),
            Some((first, last)) => (
                weekday(first).ok_or_else(bad)?,
                weekday(last).ok_or_else(bad)?,
            ),
            None => {
                let day = weekday(range).ok_or_else(bad)?;
                (day, if step.is_some() { 6 } else { day })
            }
        };
        if first > last || step == Some(0) {
            return Err(bad());
        }
        for day in (first..=last).step_by(step.unwrap_or(1)) {
            days[day % 7] = true;
        }
    }
    if days == [true; 7] {
        return Ok("*".to_owned());
    }
    let counted_from_one = (0..7)
        .filter(|day| days[*day])
        .map(|day| (day + 1).to_string());
    Ok(counted_from_one.collect::<Vec<_>>().join(","))
}

/// 0 to 7 or a three-letter name.
fn weekday(text: &str) -> Option<usize> {
    match text.parse() {
        Ok(day) => (day <= 7).then_some(day),
        Err(_) => DAY_NAMES
            .iter()
            .position(|name| text.eq_ignore_ascii_case(name)),
    }
}

#[cfg(test)]
#[path = "cron_tests.rs"]
mod tests;
