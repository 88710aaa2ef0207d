//! The registry's schedules, read once at start: what cannot be read stops the program there, and
//! not at three in the morning.

use chrono::{DateTime, Duration, Utc};
use jobs::contract::{CatchUp, Schedule};
use jobs::{NewJob, Registry};

use super::{BadCron, Cron};
use crate::queue::kinds::Kinds;
use crate::release::Release;

/// A tick that is seen within this time is not missed: workers look once a second, and cron knows
/// nothing finer than a minute.
const ON_TIME: Duration = Duration::seconds(60);

/// Every schedule of a registry, and what is declared with them.
#[derive(Clone)]
pub struct Timetable {
    lines: Vec<Line>,
    release: Release,
    kinds: Kinds,
}

/// A schedule whose cron text cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the schedule {name} has the cron expression `{cron}`: {reason}")]
pub struct BadSchedule {
    /// The schedule's name.
    pub name: &'static str,
    /// What it says.
    pub cron: &'static str,
    /// What is wrong with it.
    pub reason: BadCron,
}

/// One schedule.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) text: &'static str,
    cron: Cron,
    catch_up: CatchUp,
    job: fn(DateTime<Utc>) -> NewJob,
}

impl Timetable {
    /// The schedules of `registry`.
    ///
    /// # Errors
    /// If one of them cannot be read or would never tick; it is named.
    pub fn of(registry: &Registry) -> Result<Self, BadSchedule> {
        let lines = registry
            .schedules()
            .iter()
            .map(Line::of)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            lines,
            release: Release::of(registry),
            kinds: Kinds::of(registry),
        })
    }

    pub(super) fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// The release that declares them.
    pub(super) fn release(&self) -> &Release {
        &self.release
    }

    /// The kinds that are declared with them.
    pub(super) fn kinds(&self) -> &Kinds {
        &self.kinds
    }

    /// Names and cron texts, as columns of the table.
    pub(super) fn columns(&self) -> (Vec<&'static str>, Vec<&'static str>) {
        self.lines.iter().map(|line| (line.name, line.text)).unzip()
    }

    pub(super) fn line(&self, name: &str) -> Option<&Line> {
        self.lines.iter().find(|line| line.name == name)
    }
}

impl Line {
    fn of(schedule: &Schedule) -> Result<Self, BadSchedule> {
        let Schedule {
            name,
            cron: text,
            catch_up,
            job,
        } = *schedule;
        let cron = Cron::parse(text).map_err(|reason| BadSchedule {
            name,
            cron: text,
            reason,
        })?;
        Ok(Self {
            name,
            text,
            cron,
            catch_up,
            job,
        })
    }

    pub(super) fn job_at(&self, tick: DateTime<Utc>) -> NewJob {
        (self.job)(tick)
    }

    /// The first tick after `now`, or `now` a year later where the calendar of the library ends.
    pub(super) fn next_after(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        self.cron
            .next_after(now)
            .unwrap_or(now + Duration::days(366))
    }

    /// Which tick becomes a job now, if the row still waits for `due`: of several the newest, and
    /// that only if it is on time or its schedule catches up.
    pub(super) fn tick_to_write(
        &self,
        due: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        let newest = self.cron.latest_until(now).filter(|tick| *tick >= due)?;
        let wanted = self.catch_up == CatchUp::Latest || now - newest <= ON_TIME;
        wanted.then_some(newest)
    }
}
