//! What a mail says, as it was when the mail was asked for: a text must not change between two attempts.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// What the templates are filled with. All of it is optional but the names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailData {
    /// The plan's name.
    pub plan: String,
    /// The organization's name.
    pub organization: String,
    /// The customer's language and region as Polar knows them, such as `en-GB`: how amounts and dates are
    /// written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    /// What was charged, with tax; or the price of a period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<Money>,
    /// First day of the period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period_start: Option<DateTime<Utc>>,
    /// The day on which the period ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period_end: Option<DateTime<Utc>>,
    /// When access ends, or ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<DateTime<Utc>>,
    /// Whether access had ended already when the mail was asked for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_ended: bool,
}

/// An amount of money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    /// In the smallest unit of the currency.
    pub amount: i64,
    /// ISO 4217, in either case.
    pub currency: String,
}
