//! What we send is what the real Polar accepted, and what it answered is read.

use chrono::{DateTime, Utc};
use polar::{
    BenefitGrant, BenefitType, Cost, CostAmount, Customer, CustomerRef, CustomerType,
    CustomerUpdate, Deletion, IngestedEvent, LlmUsage, MemberUpdate, Metadata, MetadataValue,
    NewMember, NewTeam, OrAbsent, Owner, Receipt, Role, Subscription, SubscriptionStatus,
};
use serde_json::json;
use uuid::Uuid;

use crate::support::{Recording, Server};

/// Replays `name`, and afterwards holds the client's request against the recorded one.
async fn replaying(name: &str) -> (Recording, Server) {
    let recording = Recording::named(name);
    let server = Server::replaying(&recording).await;
    (recording, server)
}

fn assert_same_request(recording: &Recording, server: &Server) {
    let sent = server.only_request();
    assert_eq!(
        (&sent.method, &sent.path),
        (&recording.method, &recording.path)
    );
    assert_eq!(sent.json(), recording.request);
    if !sent.body.is_empty() {
        assert_eq!(sent.headers["content-type"], "application/json");
    }
}

fn id(text: &str) -> Uuid {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_team_is_created_with_its_owner() {
    let (recording, server) = replaying("customers-create-team").await;
    let team = NewTeam {
        name: "Blå Lykta ☕ & Co".to_owned(),
        external_id: "11111111-aaaa-4aaa-8aaa-000000000001".to_owned(),
        metadata: Metadata::from_iter([("slug", "bla-lykta")]),
        owner: Owner {
            email: "owner@example.com".to_owned(),
            name: "Owner One".to_owned(),
            external_id: "22222222-aaaa-4aaa-8aaa-000000000001".to_owned(),
        },
    };
    let customer = server
        .client()
        .customers()
        .create_team(&team)
        .await
        .unwrap();
    assert_same_request(&recording, &server);
    assert_eq!(customer.id.0, id("cbc9c941-1680-441a-abf7-6ba8408527bd"));
    assert_eq!(customer.kind, CustomerType::Team);
    assert_eq!(customer.email, None);
    assert_eq!(customer.metadata.text("slug"), Some("bla-lykta"));
}

#[tokio::test]
async fn metadata_keeps_its_kinds_both_ways() {
    let (recording, server) = replaying("customers-patch-metadata-slug").await;
    let mut metadata = Metadata::from_iter([("slug", "bla-lykta")]);
    metadata.insert("n".to_owned(), MetadataValue::Integer(1));
    metadata.insert("f".to_owned(), MetadataValue::Float(1.5));
    metadata.insert("b".to_owned(), MetadataValue::Boolean(true));
    let update = CustomerUpdate {
        metadata: Some(metadata.clone()),
        ..CustomerUpdate::default()
    };
    let client = server.client();
    let external_id = &recording.external_ids()[0];
    let customer = client
        .customers()
        .update_by_external_id(external_id, &update)
        .await
        .unwrap();
    assert_same_request(&recording, &server);
    assert_eq!(customer.metadata, metadata);
    let whole: Metadata = serde_json::from_str(r#"{"a": 380.0, "b": "380", "c": null}"#).unwrap();
    assert_eq!(
        serde_json::to_string(&whole).unwrap(),
        r#"{"a":380.0,"b":"380"}"#
    );
}

#[tokio::test]
async fn a_customer_is_looked_up_and_deleted_by_external_id() {
    let (recording, server) = replaying("customers-get-external").await;
    let external_id = &recording.external_ids()[0];
    let found = server
        .client()
        .customers()
        .get_by_external_id(external_id)
        .await
        .or_absent();
    assert_eq!(
        found.unwrap().unwrap().external_id.as_ref(),
        Some(external_id)
    );
    assert_same_request(&recording, &server);

    let (recording, server) = replaying("customers-get-external-404").await;
    let found = server
        .client()
        .customers()
        .get_by_external_id("nope")
        .await
        .or_absent();
    assert_eq!(found.unwrap(), None);
    assert_same_request(&recording, &server);

    let (recording, server) = replaying("customers-delete-external-anonymize").await;
    let external_id = &recording.external_ids()[0];
    let client = server.client();
    client
        .customers()
        .delete_by_external_id(external_id, Deletion::Anonymize)
        .await
        .unwrap();
    assert_same_request(&recording, &server);
}

#[tokio::test]
async fn the_state_of_a_customer_is_read() {
    let (recording, server) = replaying("customers-state-past-due-absent").await;
    let external_id = recording.path.split('/').nth(4).unwrap();
    let state = server
        .client()
        .customers()
        .state_by_external_id(external_id)
        .await
        .unwrap();
    assert_same_request(&recording, &server);
    assert_eq!(state.customer.external_id.as_deref(), Some(external_id));
    assert_eq!(
        state.active_subscriptions[0].status,
        SubscriptionStatus::Active
    );
    assert!(state.granted_benefits.is_empty());
}

#[tokio::test]
async fn members_are_created_changed_and_removed() {
    let (recording, server) = replaying("members-create-by-customer-id").await;
    let customer = id("cbc9c941-1680-441a-abf7-6ba8408527bd").into();
    let member = NewMember {
        email: "Mia@example.com".to_owned(),
        name: "Mia".to_owned(),
        external_id: "22222222-aaaa-4aaa-8aaa-000000000012".to_owned(),
        role: Role::BillingManager,
    };
    let made = server
        .client()
        .members()
        .create(customer, &member)
        .await
        .unwrap();
    assert_same_request(&recording, &server);
    assert_eq!(
        (made.role, made.customer_id),
        (Role::BillingManager, customer)
    );

    let (recording, server) = replaying("members-create-external-route").await;
    let customer = &recording.external_ids()[0];
    server
        .client()
        .members()
        .create_external(customer, &member)
        .await
        .unwrap();
    assert_eq!(server.only_request().path, recording.path);

    let (recording, server) = replaying("members-patch-promote-owner").await;
    let ids = recording.external_ids();
    let update = MemberUpdate {
        role: Some(Role::Owner),
        ..MemberUpdate::default()
    };
    assert!(!update.is_empty() && MemberUpdate::default().is_empty());
    let changed = server
        .client()
        .members()
        .update(&ids[0], &ids[1], &update)
        .await
        .unwrap();
    assert_same_request(&recording, &server);
    assert_eq!(changed.role, Role::Owner);

    let (recording, server) = replaying("members-get-external").await;
    let ids = recording.external_ids();
    let found = server
        .client()
        .members()
        .get(&ids[0], &ids[1])
        .await
        .unwrap();
    assert_same_request(&recording, &server);
    assert_eq!(found.external_id.as_ref(), Some(&ids[1]));

    let (recording, server) = replaying("members-delete").await;
    let ids = recording.external_ids();
    server
        .client()
        .members()
        .delete(&ids[0], &ids[1])
        .await
        .unwrap();
    assert_same_request(&recording, &server);
}

#[tokio::test]
async fn grants_of_two_subscriptions_are_both_read() {
    let (_, server) = replaying("benefit-grants-two-subscriptions-same-benefit").await;
    let grants = server
        .client()
        .benefit_grants()
        .active("o".into())
        .await
        .unwrap();
    let benefits: std::collections::HashSet<_> = grants.iter().map(|g| g.benefit_id).collect();
    assert!(grants.len() > benefits.len());
    assert!(grants.iter().all(|grant| grant.is_granted));
    let fee = grants
        .iter()
        .find(|g| g.benefit.metadata.text("type") == Some("transaction_fee"));
    let fee = fee.unwrap();
    assert_eq!(fee.benefit.kind, BenefitType::Custom);
    assert_eq!(
        fee.benefit.metadata["fee_percent"],
        MetadataValue::Integer(380)
    );
    assert_eq!(
        fee.benefit.metadata["fee_fixed"],
        MetadataValue::Integer(35)
    );
}

#[tokio::test]
async fn subscriptions_come_newest_first() {
    let (_, server) = replaying("subscriptions-list-current").await;
    let one = server
        .client()
        .subscriptions()
        .all(CustomerRef::External("o"))
        .await
        .unwrap();
    assert_eq!(one[0].amount, 0);
    let (recording, server) = replaying("subscriptions-get-pending-update").await;
    let id: Uuid = recording.path.rsplit('/').next().unwrap().parse().unwrap();
    let pending = server
        .client()
        .subscriptions()
        .get(id.into())
        .await
        .unwrap();
    assert_same_request(&recording, &server);
    assert_eq!(pending.product.as_ref().unwrap().name, "Pro");
    assert!(pending.pending_update.is_some() && pending.current_period_end.is_some());

    // Polar's order is not relied on.
    let started = |number: u8, at: serde_json::Value| {
        json!({"id": Uuid::from_bytes([number; 16]), "status": "canceled", "started_at": at,
            "customer_id": id, "product_id": id, "created_at": "2026-02-01T00:00:00Z"})
    };
    let items = [
        started(1, json!("2026-01-01T00:00:00Z")),
        started(2, json!("2026-03-01T00:00:00Z")),
        started(3, json!(null)),
    ];
    let body = json!({"items": items, "pagination": {"total_count": 3, "max_page": 1}}).to_string();
    let server = Server::answering(move |_| {
        let response = crate::support::answer(200, &[], &body);
        async move { response }
    })
    .await;
    let all = server
        .client()
        .subscriptions()
        .all(CustomerRef::External("o"))
        .await
        .unwrap();
    let order: Vec<_> = all.iter().map(|s| s.id.0.as_bytes()[0]).collect();
    assert_eq!(order, [2, 3, 1]);
}

#[tokio::test]
async fn products_organizations_and_endpoints_are_read() {
    let (recording, server) = replaying("products-get").await;
    let id: Uuid = recording.path.rsplit('/').next().unwrap().parse().unwrap();
    assert_eq!(
        server
            .client()
            .products()
            .get(id.into())
            .await
            .unwrap()
            .name,
        "Pro"
    );
    assert_same_request(&recording, &server);
    let (_, server) = replaying("products-list-page").await;
    let names: Vec<_> = server
        .client()
        .products()
        .all()
        .await
        .unwrap()
        .into_iter()
        .map(|p| p.name)
        .collect();
    assert!(names.contains(&"Scale".to_owned()) && names.contains(&"Pro".to_owned()));

    let (_, server) = replaying("webhook-endpoints-list").await;
    let endpoints = server.client().webhook_endpoints().all().await.unwrap();
    assert!(endpoints[0].enabled && endpoints[0].format.as_deref() == Some("raw"));
    assert!(!format!("{endpoints:?}").contains("whsec_"));

    let body = json!({"id": id, "name": "Self", "slug": "self", "feature_settings": {}});
    let body = body.to_string();
    let server = Server::answering(move |_| {
        let response = crate::support::answer(200, &[], &body);
        async move { response }
    })
    .await;
    let organization = server
        .client()
        .organizations()
        .get(id.into())
        .await
        .unwrap();
    assert_eq!(organization.slug, "self");
    assert_eq!(
        server.only_request().path,
        format!("/v1/organizations/{id}")
    );
}

#[tokio::test]
async fn usage_is_reported_as_polar_takes_it() {
    let (recording, server) = replaying("events-ingest-first").await;
    let at: DateTime<Utc> = "2026-11-21T00:55:32.061454Z".parse().unwrap();
    let organization = "11111111-aaaa-4aaa-8aaa-000000000001";
    let event = IngestedEvent::count(
        "event_ingestion",
        organization,
        "events_ingested-a-1",
        at,
        7,
    );
    let receipt = server.client().events().ingest(&[event]).await.unwrap();
    assert_eq!(
        receipt,
        Receipt {
            inserted: 1,
            duplicates: 0
        }
    );
    assert!(receipt.accounts_for(1) && !receipt.accounts_for(2));
    let mut sent = server.only_request().json();
    // The same moment, written with another sign for UTC.
    let timestamp = sent["events"][0]["timestamp"].take();
    assert_eq!(
        timestamp
            .as_str()
            .unwrap()
            .parse::<DateTime<Utc>>()
            .unwrap(),
        at
    );
    sent["events"][0]["timestamp"] = recording.request["events"][0]["timestamp"].clone();
    assert_eq!(sent, recording.request);
}

#[tokio::test]
async fn a_cost_is_a_span_below_a_root_and_its_amount_is_text() {
    let (recording, server) = replaying("events-root-and-child").await;
    let root = IngestedEvent::root("organization_review", "o", "organization_review-o");
    let cost = Cost::in_us_cents(CostAmount::from_cents("1.23".parse().unwrap()).unwrap());
    let llm = LlmUsage {
        vendor: "openai".to_owned(),
        model: "gpt-4o-mini".to_owned(),
        input_tokens: 100,
        output_tokens: 50,
        total_tokens: 150,
    };
    let span = IngestedEvent::span(
        &root,
        "organization_review.submission",
        "s-1",
        cost,
        Some(llm),
    );
    let receipt = server
        .client()
        .events()
        .ingest(&[root, span])
        .await
        .unwrap();
    assert!(receipt.accounts_for(2));
    assert_eq!(recording.answer["duplicates"], 1);
    let sent = server.only_request().json();
    assert_eq!(
        sent,
        json!({"events": [
            {"name": "organization_review", "external_customer_id": "o",
             "external_id": "organization_review-o"},
            {"name": "organization_review.submission", "external_customer_id": "o",
             "external_id": "s-1", "parent_id": "organization_review-o",
             "metadata": {
                "_cost": {"amount": "1.230000", "currency": "usd"},
                "_llm": {"vendor": "openai", "model": "gpt-4o-mini", "input_tokens": 100,
                         "output_tokens": 50, "total_tokens": 150}}}]})
    );
}

#[test]
fn unknown_values_and_missing_nullable_fields_are_no_errors() {
    let ids = Uuid::nil();
    let at = "2026-11-21T00:52:16Z";
    let customer: Customer =
        serde_json::from_value(json!({"id": ids, "created_at": at, "type": "galaxy"})).unwrap();
    assert_eq!(customer.kind, CustomerType::Other("galaxy".to_owned()));
    assert!(customer.metadata.is_empty() && customer.external_id.is_none());

    let subscription: Subscription = serde_json::from_value(json!({"id": ids, "created_at": at,
        "status": "hibernating", "customer_id": ids, "product_id": ids, "new": [{}]}))
    .unwrap();
    assert_eq!(subscription.status.as_str(), "hibernating");
    assert_eq!(
        serde_json::to_value(&subscription).unwrap()["status"],
        "hibernating"
    );

    let grant: BenefitGrant = serde_json::from_value(json!({"id": ids, "customer_id": ids,
        "benefit_id": ids, "benefit": {"id": ids, "type": "teleport", "metadata": {"new": null}}}))
    .unwrap();
    assert!(!grant.is_granted && grant.benefit.metadata.is_empty());
}

#[test]
fn a_grant_without_metadata_is_unreadable_and_not_one_that_gives_nothing() {
    let ids = "b3b1f4a0-5f67-4c0e-9d3a-0f6f2b1f7a11";
    for benefit in [
        json!({"id": ids, "type": "custom"}),
        json!({"id": ids, "type": "custom", "metadata": null}),
        json!({"id": ids, "type": "custom", "metadata": []}),
    ] {
        let grant = json!({"id": ids, "customer_id": ids, "benefit_id": ids, "benefit": benefit});
        assert!(serde_json::from_value::<BenefitGrant>(grant).is_err());
    }
}

#[tokio::test]
async fn a_body_too_large_for_polar_or_for_something_on_the_way_is_named() {
    let polars = r#"{"error":"RequestBodyTooLarge","detail":"Request body exceeded .."}"#;
    let version = &[("polar-version", "2026-04")][..];
    for (headers, body) in [(version, polars), (&[], "<html>413</html>")] {
        let server =
            Server::answering(move |_| async move { crate::support::answer(413, headers, body) })
                .await;
        let error = server.client().events().ingest(&[]).await.unwrap_err();
        assert!(error.is_too_large(), "{error:?}");
    }
}

#[test]
fn one_odd_value_does_not_make_the_rest_unreadable_and_is_kept_as_it_came() {
    let came = json!({"nested": {"a": [1, null]}, "list": [1], "n": 380, "f": 380.0, "b": true,
        "huge": u64::MAX, "text": "x"});
    let metadata: polar::Metadata = serde_json::from_value(came.clone()).unwrap();
    assert_eq!(metadata.text("text"), Some("x"));
    assert_eq!(metadata["n"], MetadataValue::Integer(380));
    assert_eq!(metadata["f"], MetadataValue::Float(380.0));
    assert_eq!(serde_json::to_value(&metadata).unwrap(), came);
    for odd in [json!(null), json!([]), json!("text"), json!(7)] {
        let metadata: polar::Metadata = serde_json::from_value(odd).unwrap();
        assert!(metadata.is_empty());
    }
}
