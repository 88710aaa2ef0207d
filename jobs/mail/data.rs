//! What a mail says, as it was when the mail was asked for: a text must not change between two attempts.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// The plan where Polar names no product.
const NO_PRODUCT: &str = "Polar";
/// The organization where the customer has no name.
const NO_NAME: &str = "your organization";

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

impl MailData {
    /// What every mail about a plan says; the rest is for the caller to fill in. Both names are part of every text, so
    /// they have a value where Polar tells none.
    pub(crate) fn of_customer(customer: Option<&polar::Customer>, plan: Option<&str>) -> Self {
        Self {
            plan: plan.unwrap_or(NO_PRODUCT).to_owned(),
            organization: customer
                .and_then(|customer| customer.name.clone())
                .unwrap_or_else(|| NO_NAME.to_owned()),
            locale: customer.and_then(|customer| customer.locale.clone()),
            ..Self::default()
        }
    }
}

/// An amount of money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    /// In the smallest unit of the currency.
    pub amount: i64,
    /// ISO 4217, in either case.
    pub currency: String,
}
