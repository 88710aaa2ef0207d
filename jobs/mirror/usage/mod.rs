//! Usage: recorded by the application, counted by transaction, reported to Polar once.
//!
//! `docs/metering.md` draws the way of a reading.

mod begin;
mod horizon;
mod list;
mod lives;
mod record;
mod report;
mod retention;
mod window;

pub mod prove;

pub use begin::{Adopted, adopt, begin};
pub use horizon::{
    HorizonHolder, LATE, SeenTransaction, Uncounted, grant_to_see_sessions, horizon_holder,
    uncounted,
};
pub use list::{ReportFilter, ReportRow, count_refused, list};
pub use lives::{deletion_waits, unreported_before_deletion};
pub use record::{Recorded, record_all};
pub use report::{FrozenReport, frozen, mark_reported, refuse, resolve_waiting, retry_refused};
pub use retention::{create_partitions, fold, prune, prune_ids};
pub use window::{Window, close_window};
