#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use polar::BenefitGrant;
use serde_json::{Value, json};

use super::{Entitlements, Support, SupportTier, held};
use crate::contract::Fees;

const BENEFIT: &str = "0b7c0a4e-2f0f-4f5e-8a6f-2a8f3a1d9e01";

fn grant(benefit: &str, metadata: &Value) -> BenefitGrant {
    serde_json::from_value(json!({
        "id": uuid::Uuid::new_v4(), "is_granted": true, "benefit_id": benefit,
        "customer_id": "5d1cbd8c-6b2c-4a43-9d52-6d1f6f1a3c10",
        "benefit": {"id": benefit, "type": "custom", "metadata": metadata},
    }))
    .unwrap()
}

fn read(grants: &[BenefitGrant]) -> (Entitlements, Vec<String>) {
    super::read(&held(grants))
}

fn read_one(metadata: &Value) -> (Entitlements, Vec<String>) {
    read(&[grant(BENEFIT, metadata)])
}

fn fee(value: Value) -> Value {
    json!({"type": "transaction_fee", "fee_percent": value, "fee_fixed": 35, "subscription_fee_percent": 0})
}

#[test]
fn numbers_may_be_text_integers_or_whole_floats() {
    let wanted = Fees {
        basis_points: 380,
        fixed: 35,
        subscription_basis_points: 0,
    };
    for value in [
        json!(380),
        json!(380.0),
        json!("380"),
        json!(" 380 "),
        json!("+380"),
    ] {
        let (entitlements, faults) = read_one(&fee(value.clone()));
        assert_eq!(
            (entitlements.fees, faults),
            (Some(Some(wanted)), vec![]),
            "{value}"
        );
    }
}

#[test]
fn other_numbers_keep_what_is_in_force_and_name_benefit_and_field() {
    for value in [
        json!(true),
        json!(380.5),
        json!("380.0"),
        json!("many"),
        json!(""),
        Value::Null,
        json!(-1),
        json!(10_001),
        json!(1e300),
    ] {
        let (entitlements, faults) = read_one(&fee(value.clone()));
        assert_eq!(entitlements.fees, None, "{value}");
        assert!(
            faults[0].contains(BENEFIT) && faults[0].contains("fee_percent"),
            "{faults:?}"
        );
    }
}

#[test]
fn levels_two_to_four_are_tiers_and_all_others_are_none() {
    let support = |level: i64| {
        read_one(&json!({"type": "support", "level": level, "slack": true, "prioritized": "false"}))
    };
    let tiers = [
        (2, Some(SupportTier::Pro)),
        (3, Some(SupportTier::Growth)),
        (4, Some(SupportTier::Scale)),
        (0, None),
        (1, None),
        (5, None),
        (-9, None),
    ];
    for (level, tier) in tiers {
        let (entitlements, faults) = support(level);
        assert_eq!(
            (entitlements.support.unwrap().tier, faults),
            (tier, vec![]),
            "{level}"
        );
    }
}

#[test]
fn flags_are_booleans_or_exactly_that_text_and_a_plain_tier_is_text() {
    let support = |field: &str, value: Value| {
        let mut metadata =
            json!({"type": "support", "level": 2, "slack": true, "prioritized": true});
        metadata[field] = value;
        read_one(&metadata)
    };
    for value in [json!("True"), json!("yes"), json!(1), json!(0), Value::Null] {
        let (entitlements, faults) = support("slack", value.clone());
        assert!(
            entitlements.support.is_none() && faults[0].contains("slack"),
            "{value}"
        );
    }
    for value in [json!(""), json!(7), json!(true)] {
        let (entitlements, faults) = support("plain_tier_external_id", value.clone());
        assert!(
            entitlements.support.is_none() && faults[0].contains("plain_tier"),
            "{value}"
        );
    }
    let (entitlements, _) = support("plain_tier_external_id", json!("tier"));
    assert_eq!(
        entitlements
            .support
            .unwrap()
            .plain_tier_external_id
            .as_deref(),
        Some("tier")
    );
}

#[test]
fn nothing_held_means_defaults_and_unknown_types_mean_nothing() {
    let nothing = Entitlements {
        fees: Some(None),
        support: Some(Support::default()),
        preview_access: false,
        sso_enabled: false,
    };
    assert_eq!(read(&[]), (nothing.clone(), vec![]));
    assert_eq!(
        read_one(&json!({"type": "coffee"})),
        (nothing.clone(), vec![])
    );
    assert_eq!(read_one(&json!({})), (nothing, vec![]));
}

#[test]
fn one_benefit_granted_twice_counts_once() {
    let metadata = fee(json!(380));
    let (entitlements, faults) = read(&[grant(BENEFIT, &metadata), grant(BENEFIT, &metadata)]);
    assert!(faults.is_empty() && entitlements.fees.unwrap().is_some());
}

#[test]
fn two_benefits_of_one_type_are_a_fault_that_names_count_type_and_both() {
    let other = "5d1cbd8c-6b2c-4a43-9d52-6d1f6f1a3c11";
    let (entitlements, faults) = read(&[
        grant(BENEFIT, &fee(json!(1))),
        grant(other, &fee(json!(2))),
        grant(other, &json!({"type": "sso"})),
    ]);
    assert_eq!(entitlements.fees, None);
    assert!(
        ["2 benefits", "transaction_fee", BENEFIT, other]
            .iter()
            .all(|part| faults[0].contains(part)),
        "{faults:?}"
    );
}

#[test]
fn flags_without_fields_are_on_while_held() {
    let (entitlements, faults) = read(&[grant(BENEFIT, &json!({"type": "sso"}))]);
    assert!(entitlements.sso_enabled && !entitlements.preview_access && faults.is_empty());
}

#[test]
fn a_value_that_is_no_metadata_is_a_fault_of_its_benefit_alone() {
    let broken =
        json!({"type": "support", "level": {"of": [2]}, "slack": true, "prioritized": true});
    let other = "5d1cbd8c-6b2c-4a43-9d52-6d1f6f1a3c11";
    let (entitlements, faults) = read(&[
        grant(BENEFIT, &broken),
        grant(other, &json!({"type": "sso", "note": {"any": ["thing"]}})),
    ]);
    assert!(entitlements.support.is_none() && entitlements.sso_enabled);
    assert!(
        faults.len() == 1 && faults[0].contains("level"),
        "{faults:?}"
    );
}
