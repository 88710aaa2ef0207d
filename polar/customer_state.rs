//! What a customer holds right now, in one answer: for comparing, and as the payload of
//! `customer.state_changed`.

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
    /// Subscriptions that are `active` or `trialing`; a past due one is absent (polar-domain
    /// (c.6)).
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
    /// The discount in force.
    #[serde(default)]
    pub discount_id: Option<DiscountId>,
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
    /// The benefit's metadata, whose `type` says what it switches on (polar-domain (d)).
    #[serde(default)]
    pub benefit_metadata: Metadata,
}
