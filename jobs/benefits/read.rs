//! From the benefits that are held to entitlements.

use super::fields::{boolean, integer, optional_text};
use super::{Entitlements, HeldBenefit, Support, SupportTier, names};
use crate::contract::Fees;

const SUPPORT: &str = "support";
const PREVIEW_ACCESS: &str = "preview_access";
const SSO: &str = "sso";

/// Every type that switches something on.
pub(super) const KNOWN_TYPES: [&str; 4] = [names::TRANSACTION_FEE, SUPPORT, PREVIEW_ACCESS, SSO];

/// Basis points: from nothing to everything.
const SHARE: std::ops::RangeInclusive<i64> = 0..=10_000;
/// Cents per transaction: more than 10 000 USD is a slip of the pen.
const FIXED: std::ops::RangeInclusive<i64> = 0..=1_000_000;

/// Whether a benefit of this metadata type switches anything on.
pub(crate) fn is_ours(benefit_type: &str) -> bool {
    KNOWN_TYPES.contains(&benefit_type)
}

/// Reads what the benefits say, each of which is given once, with the faults of the catalogue found
/// on the way: two benefits of one type, or metadata that cannot be read. They name benefits and
/// fields.
pub(crate) fn read(held: &[HeldBenefit<'_>]) -> (Entitlements, Vec<String>) {
    let mut faults = Vec::new();
    let entitlements = Entitlements {
        fees: single(held, names::TRANSACTION_FEE, fees, &mut faults),
        support: single(held, SUPPORT, support, &mut faults).map(Option::unwrap_or_default),
        preview_access: is_held(held, PREVIEW_ACCESS, &mut faults),
        sso_enabled: is_held(held, SSO, &mut faults),
    };
    (entitlements, faults)
}

/// The reading of the one benefit of a type: outer `None` = cannot be read, inner = not held.
#[expect(
    clippy::option_option,
    reason = "unreadable and not held are different things"
)]
fn single<T>(
    held: &[HeldBenefit<'_>],
    benefit_type: &str,
    parse: fn(HeldBenefit<'_>) -> Result<T, String>,
    faults: &mut Vec<String>,
) -> Option<Option<T>> {
    let benefits = of_type(held, benefit_type);
    match benefits.as_slice() {
        [] => Some(None),
        [benefit] => parse(*benefit)
            .map(Some)
            .map_err(|fault| faults.push(fault))
            .ok(),
        several => {
            faults.push(too_many(benefit_type, several));
            None
        }
    }
}

/// Whether a benefit without fields is held. Several are a fault, but leave no doubt.
fn is_held(held: &[HeldBenefit<'_>], benefit_type: &str, faults: &mut Vec<String>) -> bool {
    let benefits = of_type(held, benefit_type);
    if benefits.len() > 1 {
        faults.push(too_many(benefit_type, &benefits));
    }
    !benefits.is_empty()
}

fn of_type<'a>(held: &[HeldBenefit<'a>], benefit_type: &str) -> Vec<HeldBenefit<'a>> {
    held.iter()
        .copied()
        .filter(|benefit| benefit.metadata.text(names::TYPE) == Some(benefit_type))
        .collect()
}

fn too_many(benefit_type: &str, benefits: &[HeldBenefit<'_>]) -> String {
    let ids: Vec<String> = benefits
        .iter()
        .map(|benefit| benefit.id.to_string())
        .collect();
    format!(
        "{} benefits of type {benefit_type} are held at once: {}",
        ids.len(),
        ids.join(", ")
    )
}

fn fees(benefit: HeldBenefit<'_>) -> Result<Fees, String> {
    Ok(Fees {
        basis_points: small(integer(benefit, names::FEE_PERCENT, SHARE)?),
        fixed: small(integer(benefit, names::FEE_FIXED, FIXED)?),
        subscription_basis_points: small(integer(benefit, names::SUBSCRIPTION_FEE_PERCENT, SHARE)?),
    })
}

fn small(checked: i64) -> i32 {
    i32::try_from(checked).expect("the range was checked while reading")
}

fn support(benefit: HeldBenefit<'_>) -> Result<Support, String> {
    let level = integer(benefit, "level", i64::MIN..=i64::MAX)?;
    // Required of the catalogue, although nothing here depends on them.
    boolean(benefit, "slack")?;
    boolean(benefit, "prioritized")?;
    let plain_tier_external_id = optional_text(benefit, "plain_tier_external_id")?;
    Ok(Support {
        tier: SupportTier::of_level(level),
        plain_tier_external_id,
    })
}
