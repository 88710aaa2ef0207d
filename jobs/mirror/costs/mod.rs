//! Costs: recorded by the application in exact decimals, reported to Polar as spans, once.

mod list;
mod record;
mod report;

pub use list::{CostFilter, CostRow, count_refused, list, prune, retry_refused};
pub use record::record_all;
pub use report::{WaitingCost, mark_reported, mark_sent, refuse, refuse_foreign, skip, waiting};
