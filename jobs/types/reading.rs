//! What is counted and not applied: usage and costs, as a change tells them and a row keeps them.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::CostUsd;

/// The largest quantity of one reading: 2^53 - 1, which every JSON reader keeps exactly.
pub const MAX_QUANTITY: i64 = 9_007_199_254_740_991;

/// One usage reading as it comes in (`usage.recorded`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageReading {
    /// Who used it; need not be created yet.
    pub organization_id: Uuid,
    /// How much: `1..=`[`MAX_QUANTITY`]. The table refuses anything else.
    pub quantity: i64,
    /// When it happened; now when absent. Shown, but counting goes by transaction.
    pub recorded_at: Option<DateTime<Utc>>,
    /// The id of the change, 1..=512 characters; the same id again is a duplicate.
    pub external_id: Option<String>,
}

/// One cost reading as it comes in (`cost.recorded`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CostReading {
    /// Who caused it; need not be created yet.
    pub organization_id: Uuid,
    /// What caused it, 1..=63 characters: `organization_review`, `compass_assistant` or another name.
    pub source: String,
    /// What of it, 1..=63 characters; by default `chat` of `compass_assistant`, else `usage`.
    pub context: Option<String>,
    /// Who runs the model.
    pub vendor: Option<String>,
    /// Which model.
    pub model: Option<String>,
    /// Tokens read, 0 or more.
    pub input_tokens: Option<i64>,
    /// Tokens written, 0 or more.
    pub output_tokens: Option<i64>,
    /// The cost; nothing is reported without one.
    pub cost_usd: Option<CostUsd>,
    /// The run's own id, 1..=512 characters: the same run is reported once.
    pub usage_id: Option<String>,
    /// When it happened; now when absent.
    pub recorded_at: Option<DateTime<Utc>>,
    /// The id of the change, 1..=512 characters; the same id again is a duplicate.
    pub external_id: Option<String>,
}
