#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use serde_json::{Value, json};

use super::{Change, Fault, parse, parse_stored};
use crate::types::Role;

const ORGANIZATION: &str = "5d1cbd8c-6b2c-4a43-9d52-6d1f6f1a3c10";
const USER: &str = "0b7c0a4e-2f0f-4f5e-8a6f-2a8f3a1d9e01";

fn pointers(value: &Value) -> Vec<String> {
    parse(value)
        .unwrap_err()
        .into_iter()
        .map(|Fault { pointer, .. }| pointer)
        .collect()
}

fn created() -> Value {
    json!({"type": "organization.created", "data": {
        "id": ORGANIZATION, "name": "Acme", "slug": "acme",
        "owner": {"id": USER, "email": "ada@example.com"}}})
}

#[test]
fn a_created_organization_is_active_and_its_owner_may_lack_a_name() {
    let Change::OrganizationCreated {
        status,
        owner,
        fees,
        ..
    } = parse(&created()).unwrap().change
    else {
        panic!("another change")
    };
    assert_eq!((status.as_str(), owner.name, fees), ("active", None, None));
    assert_eq!(owner.email.local_part(), "ada");
}

#[test]
fn every_fault_is_reported_with_its_own_pointer() {
    let change = json!({"type": "organization.created", "id": "", "occurred_at": "yesterday", "data": {
        "id": "42", "name": " ", "slug": 7, "owner": {"id": USER, "email": "nobody"},
        "fees": {"basis_points": 10_001, "fixed": -1}}});
    assert_eq!(
        pointers(&change),
        [
            "/id",
            "/occurred_at",
            "/data/id",
            "/data/name",
            "/data/slug",
            "/data/owner/email",
            "/data/fees/basis_points",
            "/data/fees/fixed",
            "/data/fees/subscription_basis_points"
        ]
    );
}

#[test]
fn a_misspelt_type_is_a_fault() {
    assert_eq!(
        pointers(&json!({"type": "organisation.created", "data": {}})),
        ["/type"]
    );
    assert_eq!(pointers(&json!({"data": {}})), ["/type"]);
    assert_eq!(pointers(&json!([1])), [""]);
}

#[test]
fn an_unknown_field_is_a_fault_that_names_the_nearest_known_one() {
    let mut change = created();
    change["ocurred_at"] = json!("2026-08-14T09:12:09Z");
    change["data"]["nmae"] = json!("Acme");
    change["data"]["colour"] = json!("red");
    change["data"]["owner"]["mail"] = json!("ada@example.com");
    change["data"]["a/b~c"] = json!(1);
    let faults: Vec<String> = parse(&change)
        .unwrap_err()
        .into_iter()
        .map(|Fault { pointer, message }| format!("{pointer} {message}"))
        .collect();
    assert_eq!(
        faults,
        [
            "/data/a~1b~0c is unknown: known are id, name, slug, status, owner, fees",
            "/data/colour is unknown: known are id, name, slug, status, owner, fees",
            "/data/nmae is unknown: did you mean name?",
            "/data/owner/mail is unknown: did you mean email?",
            "/ocurred_at is unknown: did you mean occurred_at?",
        ]
    );
}

#[test]
fn unknown_fields_are_reported_beside_other_faults_and_at_most_twenty_of_them() {
    let mut change = json!({"type": "organization.deleted", "data": {}});
    for number in 0..100 {
        change["data"][format!("field{number:02}")] = json!(1);
    }
    let found = pointers(&change);
    assert_eq!((found.len(), found[0].as_str()), (21, "/data/id"));
    assert_eq!(found[1], "/data/field00");
}

#[test]
fn a_stored_change_is_read_without_the_fields_that_only_a_newer_release_knows() {
    let data = json!({"id": USER, "name": "Ada", "pronouns": "she"});
    assert!(parse_stored("user.updated", &data).is_ok());
}

#[test]
fn messages_never_repeat_what_was_sent() {
    let change = json!({"type": "member.added", "data": {
        "organization_id": "secret", "user": {"id": "secret", "email": "secret secret", "name": 7}, "role": "secret"}});
    let faults = parse(&change).unwrap_err();
    assert_eq!(faults.len(), 5);
    assert!(
        faults.iter().all(|fault| !fault.message.contains("secret")),
        "{faults:?}"
    );
}

#[test]
fn nul_characters_are_found_wherever_they_hide() {
    let change = json!({"type": "organization.deleted", "data": {
        "id": ORGANIZATION, "note": {"deep/down": ["\u{0}"]}, "a\u{0}": 1}});
    assert_eq!(
        pointers(&change),
        ["/data", "/data/note/deep~1down/0", "/data/note"]
    );
}

#[test]
fn costs_are_plain_decimals() {
    let cost = |text: Value| {
        json!({"type": "cost.recorded", "data": {
            "organization_id": ORGANIZATION, "source": "organization_review", "cost_usd": text}})
    };
    for good in ["0", "0.0", "12", "0.000000000001", "10000000"] {
        assert!(parse(&cost(json!(good))).is_ok(), "{good}");
    }
    let long = "0".repeat(65);
    for bad in [
        json!("-1"),
        json!("+1"),
        json!("1e3"),
        json!(""),
        json!(".5"),
        json!("5."),
        json!("NaN"),
        json!("１"),
        json!(0.5),
        json!(long),
    ] {
        assert_eq!(pointers(&cost(bad.clone())), ["/data/cost_usd"], "{bad}");
    }
}

#[test]
fn quantities_are_whole_and_at_least_one() {
    let usage = |quantity: Value| json!({"type": "usage.recorded", "data": {"organization_id": ORGANIZATION, "quantity": quantity}});
    assert!(parse(&usage(json!(1))).is_ok());
    for bad in [
        json!(0),
        json!(-1),
        json!(1.5),
        json!("1"),
        json!(true),
        json!(9_007_199_254_740_992_u64),
        Value::Null,
    ] {
        assert_eq!(pointers(&usage(bad.clone())), ["/data/quantity"], "{bad}");
    }
}

#[test]
fn ids_are_read_in_either_case_and_written_in_lower_case() {
    let upper = json!({"organization_id": ORGANIZATION.to_uppercase(), "user_id": USER.to_uppercase(), "role": "finance"});
    let Change::MemberUpdated {
        organization,
        user,
        role,
    } = parse_stored("member.updated", &upper).unwrap()
    else {
        panic!("another change")
    };
    assert_eq!(
        (
            organization.to_string().as_str(),
            user.to_string().as_str(),
            role
        ),
        (ORGANIZATION, USER, Role::Finance)
    );
    let simple = json!({"organization_id": ORGANIZATION.replace('-', ""), "user_id": USER});
    assert_eq!(
        parse_stored("member.removed", &simple).unwrap_err()[0].pointer,
        "/data/organization_id"
    );
}

#[test]
fn changes_of_an_organization_share_a_key_and_readings_have_none() {
    let removed = parse_stored(
        "member.removed",
        &json!({"organization_id": ORGANIZATION, "user_id": USER}),
    )
    .unwrap();
    let renamed = parse_stored("user.updated", &json!({"id": USER, "name": "Ada"})).unwrap();
    let used = parse_stored(
        "usage.recorded",
        &json!({"organization_id": ORGANIZATION, "quantity": 3}),
    )
    .unwrap();
    assert_eq!(
        removed.ordering_key(),
        parse(&created()).unwrap().change.ordering_key()
    );
    assert_eq!(renamed.ordering_key(), Some(format!("user/{USER}")));
    assert_eq!(used.ordering_key(), None);
}
