//! What a customer holds right now, in one answer: for comparing, and as the payload of
//! `customer.state_changed`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    BenefitGrantId, BenefitId, BenefitType, Customer, DiscountId, Metadata, ProductId,
    SubscriptionId, SubscriptionStatus,
};

/// A customer with everything it holds now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CustomerState {
    /// The customer itself.
    #[serde(flatten)]
    pub customer: Customer,
    /// Subscriptions that are `active` or `trialing`; a past due one is absent.
    #[serde(default)]
    pub active_subscriptions: Vec<ActiveSubscription>,
    /// Benefits held now, with their metadata.
    #[serde(default)]
    pub granted_benefits: Vec<GrantedBenefit>,
}

/// A subscription as the customer state shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActiveSubscription {
    /// Polar's id.
    pub id: SubscriptionId,
    /// `active` or `trialing`.
    pub status: SubscriptionStatus,
    /// The plan.
    pub product_id: ProductId,
    /// The price per period in the smallest unit of the currency.
    #[serde(default)]
    pub amount: i64,
    /// The currency, lower case.
    #[serde(default)]
    pub currency: String,
    /// `month`, `year`, ..
    #[serde(default)]
    pub recurring_interval: Option<String>,
    /// Start of the paid period.
    #[serde(default)]
    pub current_period_start: Option<DateTime<Utc>>,
    /// End of the paid period.
    #[serde(default)]
    pub current_period_end: Option<DateTime<Utc>>,
    /// Whether it ends with the period.
    #[serde(default)]
    pub cancel_at_period_end: bool,
    /// When cancellation was asked for.
    #[serde(default)]
    pub canceled_at: Option<DateTime<Utc>>,
    /// When it began.
    #[serde(default)]
    pub started_at: Option<DateTime<Utc>>,
    /// When access will end.
    #[serde(default)]
    pub ends_at: Option<DateTime<Utc>>,
    /// The discount in force.
    #[serde(default)]
    pub discount_id: Option<DiscountId>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// A benefit as the customer state shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GrantedBenefit {
    /// Polar's id of the grant.
    pub id: BenefitGrantId,
    /// Polar's id of the benefit.
    pub benefit_id: BenefitId,
    /// The kind of benefit; ours are `custom`.
    #[serde(default)]
    pub benefit_type: Option<BenefitType>,
    /// The benefit's metadata, whose `type` says what it switches on.
    #[serde(default)]
    pub benefit_metadata: Metadata,
}
