//! What a backfill reads and remembers.

pub mod estimate;
pub mod progress;
pub mod run;
