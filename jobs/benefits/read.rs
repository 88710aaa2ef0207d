//! From active grants to entitlements.

use polar::{Benefit, BenefitGrant};

use super::fields::{boolean, integer, optional_text};
use super::{Entitlements, Support, SupportTier, distinct};
use crate::contract::Fees;

const FEES: &str = "transaction_fee";
const SUPPORT: &str = "support";
const PREVIEW_ACCESS: &str = "preview_access";
const SSO: &str = "sso";

/// Basis points: from nothing to everything.
const SHARE: std::ops::RangeInclusive<i64> = 0..=10_000;
/// Cents per transaction: more than 10 000 USD is a slip of the pen.
const FIXED: std::ops::RangeInclusive<i64> = 0..=1_000_000;

/// Whether a benefit of this metadata type switches anything on.
pub(crate) fn is_ours(benefit_type: Option<&str>) -> bool {
    benefit_type.is_some_and(|kind| [FEES, SUPPORT, PREVIEW_ACCESS, SSO].contains(&kind))
}

/// Reads what active grants say, with the faults of the catalogue found on the way: two benefits
/// of one type, or metadata that cannot be read. They name benefits and fields.
pub(crate) fn read(grants: &[BenefitGrant]) -> (Entitlements, Vec<String>) {
    let mut faults = Vec::new();
    let entitlements = Entitlements {
        fees: single(grants, FEES, fees, &mut faults),
        support: single(grants, SUPPORT, support, &mut faults).map(Option::unwrap_or_default),
        preview_access: held(grants, PREVIEW_ACCESS, &mut faults),
        sso_enabled: held(grants, SSO, &mut faults),
    };
    (entitlements, faults)
}

/// The reading of the one benefit of a type: outer `None` = cannot be read, inner = not held.
#[expect(
    clippy::option_option,
    reason = "unreadable and not held are different things"
)]
fn single<T>(
    grants: &[BenefitGrant],
    benefit_type: &str,
    parse: fn(&Benefit) -> Result<T, String>,
    faults: &mut Vec<String>,
) -> Option<Option<T>> {
    let benefits = distinct(grants, benefit_type);
    match benefits.as_slice() {
        [] => Some(None),
        [benefit] => parse(benefit)
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
fn held(grants: &[BenefitGrant], benefit_type: &str, faults: &mut Vec<String>) -> bool {
    let benefits = distinct(grants, benefit_type);
    if benefits.len() > 1 {
        faults.push(too_many(benefit_type, &benefits));
    }
    !benefits.is_empty()
}

fn too_many(benefit_type: &str, benefits: &[&Benefit]) -> String {
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

fn fees(benefit: &Benefit) -> Result<Fees, String> {
    Ok(Fees {
        basis_points: small(integer(benefit, "fee_percent", SHARE)?),
        fixed: small(integer(benefit, "fee_fixed", FIXED)?),
        subscription_basis_points: small(integer(benefit, "subscription_fee_percent", SHARE)?),
    })
}

fn small(checked: i64) -> i32 {
    i32::try_from(checked).expect("the range was checked while reading")
}

fn support(benefit: &Benefit) -> Result<Support, String> {
    let level = integer(benefit, "level", i64::MIN..=i64::MAX)?;
    // Required of the catalogue, although nothing here depends on them (polar-domain (d.2)).
    boolean(benefit, "slack")?;
    boolean(benefit, "prioritized")?;
    let plain_tier_external_id = optional_text(benefit, "plain_tier_external_id")?;
    Ok(Support {
        tier: SupportTier::of_level(level),
        plain_tier_external_id,
    })
}
