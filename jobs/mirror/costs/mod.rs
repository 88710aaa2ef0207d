//! Costs: recorded by the application in exact decimals, reported to Polar as spans, once.

mod amount;
mod record;

pub use amount::{CostUsd, CostUsdError};
pub use record::{CostReading, record_all};
