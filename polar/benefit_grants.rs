//! Benefit grants: which benefits a customer holds. The list of active grants is the only truth
//! about entitlements; deliveries about grants are only a reason to ask.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;

use crate::{
    BenefitGrantId, BenefitId, Client, Customer, CustomerId, CustomerRef, Error, MemberId,
    Metadata, Operation, OrderId, SubscriptionId,
    call::Call,
    lenient::or_default,
    open_enum::open_enum,
    page::{self, Identified},
};

const LIST: Operation = Operation::get("/v1/benefit-grants/");

/// One benefit held, or once held, by one customer. Two subscriptions of a customer can each grant
/// the same benefit, so distinct `benefit_id`s are what counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BenefitGrant {
    /// Polar's id.
    pub id: BenefitGrantId,
    /// Whether it is held now.
    #[serde(default, deserialize_with = "or_default")]
    pub is_granted: bool,
    /// Whether it was withdrawn.
    #[serde(default, deserialize_with = "or_default")]
    pub is_revoked: bool,
    /// Since when it is held.
    #[serde(default, deserialize_with = "or_default")]
    pub granted_at: Option<DateTime<Utc>>,
    /// When it was withdrawn.
    #[serde(default, deserialize_with = "or_default")]
    pub revoked_at: Option<DateTime<Utc>>,
    /// Who holds it.
    pub customer_id: CustomerId,
    /// The member who holds it, where benefits are given per member.
    #[serde(default, deserialize_with = "or_default")]
    pub member_id: Option<MemberId>,
    /// What is held.
    pub benefit_id: BenefitId,
    /// The subscription that gave it.
    #[serde(default, deserialize_with = "or_default")]
    pub subscription_id: Option<SubscriptionId>,
    /// The order that gave it.
    #[serde(default, deserialize_with = "or_default")]
    pub order_id: Option<OrderId>,
    /// The customer, as it was when this was written.
    #[serde(default, deserialize_with = "or_default")]
    pub customer: Option<Customer>,
    /// The benefit, as it was when this was written. A grant is unreadable without its metadata: taken for empty ones,
    /// they would switch off what is paid for.
    #[serde(deserialize_with = "with_metadata")]
    pub benefit: Benefit,
}

/// A benefit of our own Polar organization.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Benefit {
    /// Polar's id.
    pub id: BenefitId,
    /// The kind; ours are `custom`.
    #[serde(rename = "type")]
    pub kind: BenefitType,
    /// What people read.
    #[serde(default, deserialize_with = "or_default")]
    pub description: String,
    /// Flat metadata, whose `type` says what the benefit switches on.
    #[serde(default)]
    pub metadata: Metadata,
    /// Whether the benefit was deleted.
    #[serde(default, deserialize_with = "or_default")]
    pub is_deleted: bool,
}

fn with_metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Benefit, D::Error> {
    let benefit = Value::deserialize(deserializer)?;
    if !benefit["metadata"].is_object() {
        return Err(de::Error::custom("a benefit without metadata"));
    }
    Benefit::deserialize(benefit).map_err(de::Error::custom)
}

open_enum! {
    /// The kind of a benefit.
    BenefitType {
        /// Defined by its metadata; the only kind that concerns us.
        Custom = "custom",
        /// A Discord role.
        Discord = "discord",
        /// Access to a GitHub repository.
        GithubRepository = "github_repository",
        /// Files.
        Downloadables = "downloadables",
        /// License keys.
        LicenseKeys = "license_keys",
        /// Credit on a meter.
        MeterCredit = "meter_credit",
        /// A feature flag.
        FeatureFlag = "feature_flag",
        /// A shared Slack channel.
        SlackSharedChannel = "slack_shared_channel",
    }
}

impl Identified for BenefitGrant {
    fn id(&self) -> uuid::Uuid {
        self.id.0
    }
}

/// The operations on benefit grants; see [`Client::benefit_grants`].
#[derive(Clone, Copy)]
pub struct BenefitGrants<'a>(pub(crate) &'a Client);

impl BenefitGrants<'_> {
    /// All grants that a customer holds now, oldest first; empty for an unknown customer.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub async fn active(self, customer: CustomerRef<'_>) -> Result<Vec<BenefitGrant>, Error> {
        let list = || {
            customer
                .filter(Call::new(LIST))
                .query("is_granted", true)
                .query("sorting", "created_at")
        };
        let mut grants = page::all(self.0, list).await?;
        // Polar ignores a query that it does not know.
        grants.retain(|grant: &BenefitGrant| !grant.is_revoked);
        Ok(grants)
    }
}
