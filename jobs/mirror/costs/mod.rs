//! Costs: recorded by the application in exact decimals, reported to Polar as spans, once.

mod amount;
mod list;
mod record;
mod report;

pub use amount::{CostUsd, CostUsdError};
pub use list::{CostFilter, CostRow, count_refused, list, prune, retry_refused};
pub use record::{CostReading, record_all};
pub use report::{WaitingCost, mark_reported, mark_sent, refuse, refuse_foreign, skip, waiting};
