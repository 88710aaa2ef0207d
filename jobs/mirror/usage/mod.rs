//! Usage: recorded by the application, counted by transaction, reported to Polar once.
//!
//! `docs/metering.md` draws the way of a reading.

mod record;

pub use record::{MAX_QUANTITY, Reading, Recorded, record_all};
