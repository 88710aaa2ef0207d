//! The clock as a source of jobs: each tick becomes exactly one job, however many workers look.
//!
//! Nothing is elected and nothing is remembered in process. The row of a tick, its job and the
//! schedule's next tick are one transaction, and `(schedule, tick)` is a primary key; so a worker
//! that dies half-way leaves the tick to the others, and one that comes late finds it taken.
//! All times are UTC, so that no hour is ever missing or twice there.

mod cron;
mod declare;
mod overdue;
mod run;
mod tick;
mod timetable;

pub use cron::{BadCron, Cron};
pub use declare::{Declared, declare};
pub use overdue::{Overdue, overdue};
pub use run::run;
pub use tick::{RunNowError, Ticked, run_now, tick};
pub use timetable::{BadSchedule, Timetable};
