//! Usage: recorded by the application, counted by transaction, reported to Polar once.
//!
//! `docs/metering.md` draws the way of a reading.

mod begin;
mod list;
mod record;
mod report;
mod retention;
mod window;

pub mod prove;

pub use begin::{Adopted, adopt, begin};
pub use list::{ReportFilter, ReportRow, list};
pub use record::{MAX_QUANTITY, Reading, Recorded, record_all};
pub use report::{FrozenReport, frozen, refuse, retry_refused, settle, sort_out};
pub use retention::prune;
pub use window::{HorizonHolder, Window, close_window, horizon_holder};
