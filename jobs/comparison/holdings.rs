//! What a customer holds: its grants and its subscription.

use polar::{CustomerState, Subscription};
use serde_json::{Value, json};
use uuid::Uuid;

use super::fields::differing;
use super::{Found, MISSED, UNCONFIRMED, apply_benefits, sync_subscription};
use crate::benefits::{self, Entitlements, SupportTier};
use crate::contract::NewJob;
use crate::mirror::differences::Difference;
use crate::mirror::held::HeldOrganization;
use crate::mirror::subscriptions::AllTerms;
use crate::sync_subscription::to_keep;
use crate::types::OrganizationId;

pub(super) fn benefits_differ(
    organization: OrganizationId,
    held: &HeldOrganization,
    state: &CustomerState,
) -> Option<Found> {
    let granted = benefits::held(&state.granted_benefits);
    let (entitlements, faults) = benefits::read(&granted);
    let ids: Vec<Uuid> = granted.iter().map(|benefit| benefit.id.0).collect();
    let cause = match (faults.is_empty(), held.stale) {
        (false, _) => format!(
            "the catalogue at Polar must be corrected: {}",
            faults.join("; ")
        ),
        (true, true) => UNCONFIRMED.to_owned(),
        (true, false) => MISSED.to_owned(),
    };
    let found = entitled(&entitlements, &ids);
    let (wanted, found) = match &held.benefits {
        Some((entitlements, ids)) if faults.is_empty() => {
            let (found, wanted) = differing(found, entitled(entitlements, ids))?;
            (Some(wanted), found)
        }
        Some((entitlements, ids)) => (Some(entitled(entitlements, ids)), found),
        None => (None, found),
    };
    Some(found_in(
        "benefits",
        wanted,
        Some(found),
        cause,
        apply_benefits(organization),
    ))
}

fn entitled(entitlements: &Entitlements, ids: &[Uuid]) -> Value {
    let support = entitlements.support.as_ref();
    json!({
        "support_tier": support.and_then(|support| support.tier).map(SupportTier::as_str),
        "plain_tier_external_id": support.and_then(|support| support.plain_tier_external_id.as_deref()),
        "preview_access": entitlements.preview_access,
        "sso_enabled": entitlements.sso_enabled,
        "fees": entitlements.fees.flatten().map(|fees| {
            [fees.basis_points, fees.fixed, fees.subscription_basis_points]
        }),
        "benefits": ids,
    })
}

pub(super) fn subscription_differs(
    organization: OrganizationId,
    held: &HeldOrganization,
    subscriptions: &[Subscription],
) -> Option<Found> {
    let found = to_keep(subscriptions);
    let found = found.map(|found| AllTerms::of(found, product_name(found, held)));
    let (wanted, found) = match (&held.subscription, &found) {
        (None, None) => return None,
        (Some(held), Some(found)) => {
            let (wanted, found) = differing(json!(held), json!(found))?;
            (Some(wanted), Some(found))
        }
        (held, found) => (
            held.as_ref().map(|held| json!(held)),
            found.as_ref().map(|found| json!(found)),
        ),
    };
    let cause = if held.stale { UNCONFIRMED } else { MISSED };
    Some(found_in(
        "subscription",
        wanted,
        found,
        cause.to_owned(),
        sync_subscription(organization),
    ))
}

/// The plan's name. Where Polar does not say it, it is no difference from what is held.
fn product_name(found: &Subscription, held: &HeldOrganization) -> String {
    match (&found.product, &held.subscription) {
        (Some(product), _) => product.name.clone(),
        (None, Some(held)) => held.product_name.clone(),
        (None, None) => found.product_id.to_string(),
    }
}

fn found_in(
    subject: &str,
    wanted: Option<Value>,
    found: Option<Value>,
    cause: String,
    repair: NewJob,
) -> Found {
    Found {
        difference: Difference {
            subject: subject.to_owned(),
            wanted,
            found,
            cause,
        },
        repair: Some(repair),
        foreign_member: None,
    }
}
