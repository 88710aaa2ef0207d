//! Real deliveries: their signatures hold, and a look into them finds whom they are about.

use chrono::DateTime;
use polar::{
    Benefit, BenefitGrant, Customer, CustomerState, Envelope, EventType, Peek, Subscription,
    SubscriptionStatus, peek,
    webhook::{SignatureError, SignatureHeaders, Verifier},
};
use proptest::prelude::*;
use uuid::Uuid;

use crate::support::load;

const DELIVERIES: [&str; 11] = [
    "webhook-benefit-updated",
    "webhook-benefit_grant-created",
    "webhook-benefit_grant-revoked-after-delete-anonymized",
    "webhook-benefit_grant-revoked-after-delete-plain-nonascii",
    "webhook-customer-created-nonascii",
    "webhook-customer-deleted-after-delete-anonymized",
    "webhook-customer-deleted-after-delete-plain",
    "webhook-customer-state_changed",
    "webhook-member-created",
    "webhook-order-created-paid",
    "webhook-subscription-past_due",
];

struct Delivery {
    secret: String,
    id: String,
    timestamp: String,
    signature: String,
    body: String,
}

fn delivery(name: &str) -> Delivery {
    let file = load(name);
    let header = |wanted: &str| {
        let all = file["header_order_and_values"].as_array().unwrap();
        let pair = all.iter().find(|pair| pair[0] == wanted).unwrap();
        pair[1].as_str().unwrap().to_owned()
    };
    Delivery {
        secret: file["secret"].as_str().unwrap().to_owned(),
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp"),
        signature: header("webhook-signature"),
        body: file["body_text"].as_str().unwrap().to_owned(),
    }
}

fn look(name: &str) -> Peek {
    peek(delivery(name).body.as_bytes())
}

fn uuid(text: &str) -> Uuid {
    text.parse().unwrap()
}

#[test]
fn recorded_deliveries_verify_and_changed_ones_do_not() {
    for name in DELIVERIES {
        let d = delivery(name);
        let verifier = Verifier::new(vec![d.secret.as_str().into()]);
        let now = DateTime::from_timestamp(d.timestamp.parse().unwrap(), 0).unwrap();
        let headers = SignatureHeaders {
            id: Some(d.id.as_bytes()),
            timestamp: Some(d.timestamp.as_bytes()),
            signature: Some(d.signature.as_bytes()),
        };
        let verified = verifier.verify(headers, d.body.as_bytes(), now).unwrap();
        assert_eq!(verified.id, d.id, "{name}");
        let changed = d.body.replace("true", "false").replace("type", "kind");
        assert_eq!(
            verifier.verify(headers, changed.as_bytes(), now),
            Err(SignatureError::Mismatch),
            "{name}"
        );
    }
}

#[test]
fn a_grant_names_customer_subscription_and_benefit() {
    let seen = look("webhook-benefit_grant-created");
    assert_eq!(seen.event_type, Some(EventType::BenefitGrantCreated));
    let customer = uuid("cbc9c941-1680-441a-abf7-6ba8408527bd");
    assert_eq!(seen.customer_id, Some(customer.into()));
    assert_eq!(
        seen.external_customer_id.as_deref(),
        Some("11111111-aaaa-4aaa-8aaa-000000000001")
    );
    let subscription = uuid("cc56c483-f82f-4ff2-9f13-a725b1bd12e1");
    assert_eq!(seen.subscription_id, Some(subscription.into()));
    assert_eq!(
        seen.benefit_id,
        Some(uuid("627cefd4-292d-44de-ac79-1a8986f68c98").into())
    );
    assert!(seen.external_member_id.is_some() && seen.order_id.is_none());
}

#[test]
fn after_a_deletion_the_customer_is_still_named() {
    for name in [
        "webhook-benefit_grant-revoked-after-delete-anonymized",
        "webhook-customer-deleted-after-delete-anonymized",
    ] {
        assert!(look(name).external_customer_id.is_some(), "{name}");
    }
    for name in [
        "webhook-benefit_grant-revoked-after-delete-plain-nonascii",
        "webhook-customer-deleted-after-delete-plain",
    ] {
        let seen = look(name);
        assert_eq!(seen.external_customer_id, None, "{name}: Polar keeps none");
        assert!(seen.customer_id.is_some(), "{name}");
    }
}

#[test]
fn each_kind_of_data_names_itself() {
    let data_id = |name: &str| {
        let body: serde_json::Value = serde_json::from_str(&delivery(name).body).unwrap();
        uuid(body["data"]["id"].as_str().unwrap())
    };
    let name = "webhook-customer-state_changed";
    assert_eq!(look(name).customer_id, Some(data_id(name).into()));
    let name = "webhook-order-created-paid";
    assert_eq!(look(name).order_id, Some(data_id(name).into()));
    assert!(look(name).customer_id.is_some() && look(name).subscription_id.is_some());
    let name = "webhook-subscription-past_due";
    assert_eq!(look(name).subscription_id, Some(data_id(name).into()));
    let name = "webhook-benefit-updated";
    assert_eq!(look(name).benefit_id, Some(data_id(name).into()));
    assert_eq!(look(name).customer_id, None);
    let name = "webhook-member-created";
    assert!(look(name).external_member_id.is_some() && look(name).customer_id.is_some());
}

#[test]
fn one_odd_field_does_not_hide_the_others() {
    let id = "cbc9c941-1680-441a-abf7-6ba8408527bd";
    for body in [
        format!(
            r#"{{"type":7,"data":{{"customer_id":"{id}","id":[1,{{"a":null}}],"metadata":3}}}}"#
        ),
        format!(
            r#"{{"data":{{"customer_id":{{"x":[]}},"customer":{{"id":"{id}","metadata":"m"}}}}}}"#
        ),
        format!(
            r#"{{"data":{{"customer":[1.5,true],"customer_id":"{id}","order_id":"no uuid"}}}}"#
        ),
        format!(r#"{{"type":"customer.x","data":{{"id":"{id}","external_id":false}}}}"#),
        format!(r#"{{"type":"cust\u006fmer.updated","data":{{"id":"{id}","customer":null}}}}"#),
    ] {
        let seen = peek(body.as_bytes());
        assert_eq!(seen.customer_id, Some(uuid(id).into()), "{body}");
        assert_eq!(
            (seen.external_customer_id, seen.order_id),
            (None, None),
            "{body}"
        );
    }
    let kept = r#"{"type":"customer.deleted","data":{"external_id":null,"metadata":{"__external_id":"o"}}}"#;
    assert_eq!(
        peek(kept.as_bytes()).external_customer_id.as_deref(),
        Some("o")
    );
    let nested = r#"{"data":{"customer":{"external_id":"","metadata":{"__external_id":"o"}}}}"#;
    assert_eq!(
        peek(nested.as_bytes()).external_customer_id.as_deref(),
        Some("o")
    );
    let flat = r#"{"type":"x.y","data":{"external_customer_id":"o"}}"#;
    assert_eq!(
        peek(flat.as_bytes()).external_customer_id.as_deref(),
        Some("o")
    );
}

#[test]
fn text_that_no_database_holds_is_absent() {
    let body = r#"{"type":"a\u0000b","data":{"customer":{"external_id":"o\u0000"}}}"#;
    assert_eq!(peek(body.as_bytes()), Peek::default());
}

#[test]
fn garbage_gives_nothing() {
    for body in [
        "",
        "null",
        "[]",
        "7",
        "{",
        r#"{"type":"order.paid""#,
        "\u{feff}{}",
        "{}",
    ] {
        assert_eq!(peek(body.as_bytes()), Peek::default(), "{body:?}");
    }
    assert_eq!(peek(b"{\"type\":\"\xff\"}"), Peek::default());
    let deep = "[".repeat(100_000);
    assert_eq!(
        peek(format!(r#"{{"data":{deep}"#).as_bytes()),
        Peek::default()
    );
}

#[test]
fn there_are_41_types_and_others_are_kept() {
    assert_eq!(EventType::KNOWN.len(), 41);
    for text in EventType::KNOWN {
        let parsed = EventType::parse(text);
        assert!(!matches!(parsed, EventType::Other(_)), "{text}");
        assert_eq!(parsed.as_str(), *text);
    }
    assert_eq!(
        EventType::parse("order.teleported").as_str(),
        "order.teleported"
    );
}

#[test]
fn deliveries_read_as_what_their_type_promises() {
    let body = delivery("webhook-benefit_grant-created").body;
    let grant = Envelope::<BenefitGrant>::parse(body.as_bytes()).unwrap();
    assert_eq!(grant.event_type, EventType::BenefitGrantCreated);
    assert_eq!(
        grant.data.benefit.metadata.text("type"),
        Some("transaction_fee")
    );
    assert!(grant.timestamp.is_some());

    let body = delivery("webhook-subscription-past_due").body;
    let subscription = Envelope::<Subscription>::parse(body.as_bytes())
        .unwrap()
        .data;
    assert_eq!(subscription.status, SubscriptionStatus::PastDue);
    assert!(subscription.past_due_at.is_some());

    let body = delivery("webhook-customer-state_changed").body;
    Envelope::<CustomerState>::parse(body.as_bytes()).unwrap();
    let body = delivery("webhook-benefit-updated").body;
    Envelope::<Benefit>::parse(body.as_bytes()).unwrap();
    let body = delivery("webhook-customer-deleted-after-delete-plain").body;
    let deleted = Envelope::<Customer>::parse(body.as_bytes()).unwrap().data;
    assert!(deleted.external_id.is_none());

    let error = Envelope::<Customer>::parse(br#"{"type":"x","data":{"id":"secret"}}"#).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("secret"));
}

proptest! {
    #[test]
    fn a_look_never_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = peek(&body);
    }

    #[test]
    fn a_look_into_a_damaged_delivery_never_panics(
        cut in 0..2000usize, place in 0..2000usize, byte in any::<u8>(),
    ) {
        let mut body = delivery("webhook-benefit_grant-created").body.into_bytes();
        body[place] = byte;
        let _ = peek(&body);
        body.truncate(cut);
        prop_assert_eq!(peek(&body), Peek::default());
    }
}

#[test]
fn a_look_into_a_grant_finds_what_its_benefit_switches_on() {
    let look = |event_type: &str, data: serde_json::Value| {
        peek(
            serde_json::json!({"type": event_type, "data": data})
                .to_string()
                .as_bytes(),
        )
        .benefit_type
    };
    let grant = |benefit: serde_json::Value| {
        look(
            "benefit_grant.created",
            serde_json::json!({"benefit": benefit}),
        )
    };
    let metadata = |metadata: serde_json::Value| serde_json::json!({"metadata": metadata});
    assert_eq!(
        grant(metadata(serde_json::json!({"type": "sso"}))).as_deref(),
        Some("sso")
    );
    // Metadata that name no type name nothing; where none can be seen, nothing is known.
    assert_eq!(grant(metadata(serde_json::json!({}))).as_deref(), Some(""));
    assert_eq!(
        grant(metadata(serde_json::json!({"type": 7}))).as_deref(),
        Some("")
    );
    assert_eq!(grant(metadata(serde_json::json!(null))), None);
    assert_eq!(grant(serde_json::json!("sso")), None);
    let benefit = metadata(serde_json::json!({"type": "support"}));
    assert_eq!(
        look("benefit.updated", benefit.clone()).as_deref(),
        Some("support")
    );
    assert_eq!(look("customer.updated", benefit), None);
}

#[test]
fn a_field_that_nobody_needs_makes_no_grant_and_no_subscription_unreadable() {
    let id = "0b7c0a4e-2f0f-4f5e-8a6f-2a8f3a1d9e01";
    let grant: BenefitGrant = serde_json::from_value(serde_json::json!({"id": id, "customer_id": id, "benefit_id": id,
        "granted_at": "yesterday", "is_granted": "yes", "customer": 7, "member_id": [],
        "benefit": {"id": id, "type": "custom", "description": {"de": "x"}, "metadata": {"type": "sso", "odd": [1]}}}))
    .unwrap();
    assert_eq!(grant.benefit.metadata.text("type"), Some("sso"));
    let subscription: Subscription = serde_json::from_value(serde_json::json!({"id": id, "customer_id": id,
        "product_id": id, "status": "active", "created_at": "2026-08-14T09:12:09Z", "metadata": "none",
        "customer": {}, "pending_update": true,
        "product": {"id": id, "name": "Pro", "benefits": [7, {"id": id, "type": "custom"}], "visibility": 1}}))
    .unwrap();
    let product = subscription.product.unwrap();
    assert_eq!((product.name.as_str(), product.benefits.len()), ("Pro", 1));
    assert_eq!(subscription.status, SubscriptionStatus::Active);
}
