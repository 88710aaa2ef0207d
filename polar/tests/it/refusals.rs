//! Every kind of refusal that the real Polar was seen to give, and some that stand before it.

use std::time::Duration;

use polar::{CustomerRef, Error, IngestedEvent, LocPart};
use serde_json::json;

use crate::support::{Recording, Server, TOKEN, answer};

/// The error that a recorded answer becomes. Which operation gets it does not matter.
async fn error_of(recording: &str) -> Error {
    let server = Server::replaying(&Recording::named(recording)).await;
    server
        .client()
        .customers()
        .get_by_external_id("o")
        .await
        .unwrap_err()
}

/// Polar's answers carry this; nobody else's do.
const POLARS: &[(&str, &str)] = &[("polar-version", "2026-04")];

async fn error_of_answer(status: u16, headers: &'static [(&str, &str)], body: &str) -> Error {
    let body = body.to_owned();
    let server = Server::answering(move |_| {
        let response = answer(status, headers, &body);
        async move { response }
    })
    .await;
    server
        .client()
        .customers()
        .get_by_external_id("o")
        .await
        .unwrap_err()
}

#[tokio::test]
async fn a_duplicate_external_id_is_told_from_other_clashes() {
    let duplicate = error_of("customers-create-duplicate-external-id").await;
    assert!(duplicate.is_duplicate_external_id());
    assert!(!duplicate.is_duplicate_email() && !duplicate.is_undeliverable_email());

    let email = error_of("customers-create-duplicate-email").await;
    assert!(email.is_duplicate_email());
    assert!(!email.is_duplicate_external_id() && !email.is_undeliverable_email());

    let both = error_of("customers-create-duplicate-both").await;
    assert!(both.is_duplicate_email());
    assert!(
        !both.is_duplicate_external_id(),
        "re-reading would not repair the address"
    );
    assert_eq!(both.faults_at(&["external_id"]).len(), 1);
    assert_eq!(both.faults_at(&["external_id", "email"]).len(), 2);

    assert!(
        error_of("members-patch-email-clash")
            .await
            .is_duplicate_email()
    );
}

#[tokio::test]
async fn an_undeliverable_address_is_recognised_and_not_repeated() {
    let error = error_of("customers-create-undeliverable-email").await;
    assert!(error.is_undeliverable_email());
    assert!(!error.is_duplicate_email() && !error.is_sole_owner());
    let fault = &error.invalid().unwrap().faults[0];
    assert_eq!(fault.loc.last(), Some(&LocPart::Name("email".to_owned())));
    assert_eq!(
        fault.message,
        "[address] is not a valid email address: The domain name example.com does not exist."
    );
    assert!(!format!("{error} {error:?}").contains('@'));
    assert!(
        error_of("members-create-bad-email")
            .await
            .is_undeliverable_email()
    );
}

#[tokio::test]
async fn the_sole_owner_is_recognised() {
    assert!(error_of("members-delete-sole-owner").await.is_sole_owner());
    assert!(
        error_of("members-patch-demote-sole-owner")
            .await
            .is_sole_owner()
    );
    assert!(!error_of("members-create-role-owner").await.is_sole_owner());
    assert!(!error_of("members-patch-email-clash").await.is_sole_owner());
}

#[tokio::test]
async fn a_refused_body_is_never_repeated() {
    let error = error_of("customers-create-metadata-51").await;
    let shown = format!("{error} {error:?}");
    assert!(shown.contains("at most 50 items"), "{shown}");
    assert!(!shown.contains("k49"), "{shown}");
}

#[tokio::test]
async fn a_422_with_text_keeps_its_name_and_text() {
    let error = error_of("orders-invoice-create-nodetails").await;
    let invalid = error.invalid().unwrap();
    assert_eq!(invalid.error, "MissingInvoiceBillingDetails");
    assert!(
        invalid
            .detail
            .as_deref()
            .unwrap()
            .starts_with("Billing name and address")
    );
    assert!(invalid.faults.is_empty() && error.refused_indexes().is_empty());
}

#[tokio::test]
async fn a_422_without_a_name_is_read_all_the_same() {
    let clash = r#"{"detail": [{"type": "value_error", "loc": ["body", "external_id"],
        "msg": "A customer with this external ID already exists.", "input": "x"}]}"#;
    assert!(
        error_of_answer(422, POLARS, clash)
            .await
            .is_duplicate_external_id()
    );
    for odd in [
        "",
        "null",
        "[]",
        r#"{"detail": [null, 5, {"loc": [null, -1]}]}"#,
        "<html>",
    ] {
        let error = error_of_answer(422, POLARS, odd).await;
        assert!(!error.is_duplicate_external_id(), "{odd:?}: {error:?}");
    }
}

#[tokio::test]
async fn the_refused_event_is_named_by_its_place_in_the_callers_list() {
    let server = Server::replaying(&Recording::named("events-ingest-one-invalid")).await;
    // Sorted for Polar as a, b, c; Polar refuses the second.
    let events = ["c", "a", "b"].map(|id| IngestedEvent::root("n", "o", id));
    let error = server.client().events().ingest(&events).await.unwrap_err();
    assert_eq!(error.refused_indexes(), [2]);
    let faults = error.invalid().unwrap().faults_of_event(2);
    assert_eq!(
        faults.len(),
        1,
        "the variant without our field is left out: {faults:?}"
    );
    assert_eq!(
        faults[0].message,
        "String should have at most 128 characters"
    );
    let sent = server.only_request().json();
    let ids: Vec<_> = (0..3)
        .map(|i| sent["events"][i]["external_id"].clone())
        .collect();
    assert_eq!(ids, [json!("a"), json!("b"), json!("c")]);

    let error = error_of("events-ingest-unknown-customer-id").await;
    assert_eq!(error.refused_indexes(), [0]);
}

#[tokio::test]
async fn refused_tokens_and_missing_scopes_are_named() {
    for (recording, name) in [
        ("auth-bad-token", "invalid_token"),
        ("auth-no-token", "Unauthorized"),
    ] {
        let error = error_of(recording).await;
        assert!(
            matches!(&error, Error::Unauthorized { error, detail: Some(_), .. } if error == name)
        );
    }
    let error = error_of("auth-missing-scope").await;
    assert!(matches!(&error, Error::MissingScope { scope, .. } if scope == "events:write"));
    assert!(
        error
            .to_string()
            .ends_with("the access token lacks the scope events:write"),
        "{error}"
    );
    let unnamed = r#"{"error": "insufficient_scope", "error_description": "More is needed."}"#;
    let error = error_of_answer(403, POLARS, unnamed).await;
    assert!(matches!(&error, Error::MissingScope { scope, .. } if scope == "customers:read"));
    let error = error_of("members-create-on-individual").await;
    assert!(matches!(&error, Error::Forbidden { error, .. } if error == "NotPermitted"));
}

#[tokio::test]
async fn only_polar_can_say_that_a_thing_does_not_exist() {
    assert!(error_of("customers-get-external-404").await.is_not_found());
    let error = error_of("orders-invoice-get-before-paid").await;
    assert!(matches!(&error, Error::NotFound { error, .. } if error == "InvoiceDoesNotExist"));
    // A wrong version or address must not look like "already deleted".
    let error = error_of("path-unknown").await;
    assert!(matches!(error, Error::Unexpected { status: 404, .. }));
    assert!(error.is_misdirected() && !error.is_not_found());
    let error = error_of("version-unknown").await;
    assert!(matches!(error, Error::Intermediary { status: 404, .. }));
    assert!(error.is_down() && !error.is_not_found());
}

/// A gateway that lost its way to Polar answers in JSON as well, and knows nothing of what is there.
#[tokio::test]
async fn a_refusal_that_lacks_polars_body_or_header_is_not_polars() {
    const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
    const HTML: &[(&str, &str)] = &[("content-type", "text/html")];
    for status in [400, 402, 403, 404, 407, 408, 409, 413, 418, 422, 425, 451] {
        for (headers, body) in [
            (HTML, "<html>no</html>"),
            (JSON, ""),
            (JSON, "null"),
            (JSON, r#"{"message": "no Route matched with those values"}"#),
            (JSON, r#"{"detail": "Customer not found"}"#),
            (
                JSON,
                r#"{"error": "ResourceNotFound", "detail": "Not found"}"#,
            ),
            (JSON, r#"{"error": "insufficient_scope"}"#),
        ] {
            let error = error_of_answer(status, headers, body).await;
            assert!(
                matches!(error, Error::Intermediary { status: said, .. } if said == status),
                "{status} {body}: {error:?}"
            );
            assert!(error.is_down() && !error.is_not_found() && error.invalid().is_none());
        }
        // The header alone is no refusal either, but a route that Polar does not know.
        let error = error_of_answer(status, POLARS, r#"{"detail": "Not Found"}"#).await;
        assert!(
            error.is_down() || error.is_misdirected(),
            "{status}: {error:?}"
        );
        let named = r#"{"error": "SomeName", "detail": "Some words"}"#;
        let error = error_of_answer(status, POLARS, named).await;
        assert!(
            !error.is_down() && !error.is_misdirected(),
            "{status}: {error:?}"
        );
    }
}

#[tokio::test]
async fn the_other_refusals_keep_their_names() {
    let error = error_of("orders-invoice-create-void").await;
    assert!(
        matches!(&error, Error::Conflict { error, .. } if error == "OrderNotEligibleForInvoice")
    );
    let error = error_of("subscriptions-patch-invoice-no-payment-method").await;
    assert!(
        matches!(&error, Error::PaymentFailed { detail: Some(text), .. }
        if text.contains("missing_payment_method"))
    );
    let error = error_of("subscriptions-patch-uncancel-twice").await;
    assert!(
        matches!(&error, Error::Unexpected { status: 400, error, .. } if error == "BadRequest")
    );
    assert!(!error.is_misdirected());
    let error = error_of("method-not-allowed").await;
    assert!(matches!(error, Error::Unexpected { status: 405, .. }));
}

#[tokio::test]
async fn a_server_error_is_read_whatever_its_body() {
    let error = error_of("members-create-same-external-id-other-email").await;
    assert!(matches!(error, Error::Unavailable { status: 500, .. }));
    assert!(error.is_down());
    let error = error_of_answer(502, &[("content-type", "text/html")], "<h1>Bad gateway").await;
    assert!(matches!(error, Error::Unavailable { status: 502, .. }));
}

#[tokio::test]
async fn a_rate_limit_says_how_long_to_wait() {
    let error = error_of("ratelimit-429-valid-token").await;
    assert!(matches!(error, Error::RateLimited { retry_after, .. }
        if retry_after == Duration::from_secs(60)));
    let error = error_of_answer(429, &[("retry-after", "7")], "").await;
    assert!(matches!(error, Error::RateLimited { retry_after, .. }
        if retry_after == Duration::from_secs(7)));
}

#[tokio::test]
async fn an_echoed_token_is_masked() {
    let body = json!({"error": "E", "detail": format!("token {TOKEN} of ann@example.com")});
    let error = error_of_answer(403, POLARS, &body.to_string()).await;
    let shown = format!("{error} {error:?}");
    assert!(shown.contains("token [token] of [address]"), "{shown}");
    assert!(!shown.contains(TOKEN) && !shown.contains("ann@"), "{shown}");
}

#[tokio::test]
async fn an_error_names_the_route_and_not_the_people() {
    let server = Server::replaying(&Recording::named("auth-no-token")).await;
    let client = server.client();
    let error = client
        .members()
        .get("org-secret", "user-secret")
        .await
        .unwrap_err();
    assert_eq!(
        error.operation().unwrap().to_string(),
        "GET /v1/customers/external/{external_id}/members/{member_external_id}"
    );
    assert!(!format!("{error} {error:?}").contains("secret"));
    let error = client
        .members()
        .all(CustomerRef::External("org-secret"))
        .await
        .unwrap_err();
    assert!(!format!("{error} {error:?}").contains("secret"));
}
