//! What the benefits that a customer holds say about its entitlements.
//!
//! A benefit's metadata is written by people in Polar's catalogue, so every field is checked. What
//! cannot be read keeps its value here and is reported by name; the rest is applied.

mod fields;
pub mod names;
mod plan;
mod read;
#[cfg(test)]
mod tests;

use polar::{BenefitGrant, BenefitId, GrantedBenefit, Metadata};

use crate::contract::Fees;

pub use plan::{Plan, plan};
pub(crate) use read::{is_ours, read};

/// A support tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SupportTier {
    /// Level 2.
    Pro,
    /// Level 3.
    Growth,
    /// Level 4.
    Scale,
}

impl SupportTier {
    /// The tier of a level; every other level is valid and has none.
    #[must_use]
    pub const fn of_level(level: i64) -> Option<Self> {
        match level {
            2 => Some(Self::Pro),
            3 => Some(Self::Growth),
            4 => Some(Self::Scale),
            _ => None,
        }
    }

    /// The tier that [`SupportTier::as_str`] names.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pro, Self::Growth, Self::Scale]
            .into_iter()
            .find(|tier| tier.as_str() == text)
    }

    /// As the `entitlements` view shows it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pro => "pro",
            Self::Growth => "growth",
            Self::Scale => "scale",
        }
    }
}

/// What a support benefit gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Support {
    /// The tier.
    pub tier: Option<SupportTier>,
    /// The tier at the support desk, if it is another than the default.
    pub plain_tier_external_id: Option<String>,
}

/// The four entitlements. `None` = cannot be read: what is in force stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entitlements {
    /// The granted fees; inner `None` = no grant, so the organization's own or the platform's.
    pub fees: Option<Option<Fees>>,
    /// Support; without a grant empty.
    pub support: Option<Support>,
    /// Preview features.
    pub preview_access: bool,
    /// Single sign-on.
    pub sso_enabled: bool,
}

/// A benefit that a customer holds, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeldBenefit<'a> {
    pub(crate) id: BenefitId,
    pub(crate) metadata: &'a Metadata,
}

impl<'a> From<&'a BenefitGrant> for HeldBenefit<'a> {
    fn from(grant: &'a BenefitGrant) -> Self {
        Self {
            id: grant.benefit_id,
            metadata: &grant.benefit.metadata,
        }
    }
}

impl<'a> From<&'a GrantedBenefit> for HeldBenefit<'a> {
    fn from(granted: &'a GrantedBenefit) -> Self {
        Self {
            id: granted.benefit_id,
            metadata: &granted.benefit_metadata,
        }
    }
}

/// Each benefit once, ordered by id: two subscriptions of a customer give two grants of one benefit.
pub(crate) fn held<'a, G>(grants: &'a [G]) -> Vec<HeldBenefit<'a>>
where
    HeldBenefit<'a>: From<&'a G>,
{
    let mut benefits: Vec<HeldBenefit<'a>> = grants.iter().map(HeldBenefit::from).collect();
    benefits.sort_by_key(|benefit| benefit.id);
    benefits.dedup_by_key(|benefit| benefit.id);
    benefits
}
