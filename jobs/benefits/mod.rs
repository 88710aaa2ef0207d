//! What the benefits that a customer holds say about its entitlements (polar-domain (d)).
//!
//! A benefit's metadata is written by people in Polar's catalogue, so every field is checked. What
//! cannot be read keeps its value here and is reported by name; the rest is applied.

mod fields;
mod read;
#[cfg(test)]
mod tests;

use polar::{Benefit, BenefitGrant};

use crate::contract::Fees;

pub(crate) use read::{is_ours, read};

/// A support tier (polar-domain (d.2)).
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

/// Each benefit once: two subscriptions of a customer give two grants of one benefit (R32).
fn distinct<'a>(grants: &'a [BenefitGrant], benefit_type: &str) -> Vec<&'a Benefit> {
    let mut benefits: Vec<&Benefit> = grants
        .iter()
        .map(|grant| &grant.benefit)
        .filter(|benefit| benefit.metadata.text("type") == Some(benefit_type))
        .collect();
    benefits.sort_by_key(|benefit| benefit.id);
    benefits.dedup_by_key(|benefit| benefit.id);
    benefits
}
