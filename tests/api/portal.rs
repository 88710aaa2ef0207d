//! What people do at Polar through us, as themselves.

use serde_json::{Value, json};
use simulator::Product;
use uuid::Uuid;

use crate::app::{Answer, ApiApp, As, Company};

async fn tell(app: &ApiApp, company: &Company, method: &str, route: &str, body: &Value) -> Answer {
    app.tell_api(&company.owner(), method, &company.at(route), body)
        .await
}

#[tokio::test]
async fn billing_details_are_changed_field_by_field_and_polars_faults_come_through() {
    let app = ApiApp::open().await;
    let company = app.company().await;
    let address =
        json!({"line1": "1 Rue", "postal_code": "75001", "city": "Paris", "country": "FR"});
    let body = json!({"billing_name": "Acme", "billing_address": address});
    let set = tell(&app, &company, "PATCH", "/billing-details", &body).await;
    assert_eq!(set.status, 200, "{set:?}");
    let set = tell(
        &app,
        &company,
        "PATCH",
        "/billing-details",
        &json!({"tax_id": "FR61954506077"}),
    )
    .await;
    assert_eq!(set.body["tax_id"], "FR61954506077", "{set:?}");
    assert_eq!(set.body["billing_name"], "Acme");
    assert_eq!(set.body["billing_address"]["city"], "Paris");
    assert_eq!(
        app.writes().pop().unwrap().body,
        json!({"tax_id": "FR61954506077"})
    );
    let got = app
        .ask(&company.owner(), "GET", &company.at("/billing-details"))
        .await;
    assert_eq!(got.body, set.body);
    for (body, field) in [
        (json!({"tax_id": "NOTVALID"}), "tax_id"),
        (json!({"billing_address": null}), "billing_address"),
        (
            json!({"billing_address": {"country": "US", "line1": "1 Main", "city": "LA", "postal_code": "90001", "state": "US-CA"}}),
            "tax_id",
        ),
    ] {
        let refused = tell(&app, &company, "PATCH", "/billing-details", &body).await;
        assert_eq!(refused.status, 422, "{refused:?}");
        assert_eq!(refused.body["detail"][0]["loc"], json!(["body", field]));
    }
}

#[tokio::test]
async fn cards_are_listed_chosen_and_removed_and_one_in_use_stays() {
    let app = ApiApp::open().await;
    let company = app.customer_of(Product::Pro).await;
    let other = app
        .simulator
        .add_other_payment_method(company.id())
        .await
        .unwrap();
    let list = async || {
        app.ask(&company.owner(), "GET", &company.at("/payment-methods"))
            .await
            .body
    };
    let methods = list().await;
    assert_eq!(
        methods["pagination"],
        json!({"total_count": 2, "max_page": 1})
    );
    let card = methods["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|m| m["type"] == "card")
        .unwrap();
    assert_eq!(card["default"], true);
    assert_eq!(card["method_metadata"]["last4"].as_str().unwrap().len(), 4);
    let generic = methods["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|m| m["type"] != "card")
        .unwrap();
    assert!(generic.get("method_metadata").is_none());
    let at = |id: &str, rest: &str| company.at(&format!("/payment-methods/{id}{rest}"));
    let chosen = app
        .ask(
            &company.owner(),
            "POST",
            &at(&other.to_string(), "/default"),
        )
        .await;
    assert_eq!(chosen.status, 204);
    let removed = app
        .ask(
            &company.owner(),
            "DELETE",
            &at(card["id"].as_str().unwrap(), ""),
        )
        .await;
    assert!(matches!(removed.status, 204 | 400), "{removed:?}");
    let stranger = app.customer_of(Product::Pro).await;
    let theirs = app
        .simulator
        .add_card(stranger.id(), "1111", false)
        .await
        .unwrap();
    for id in [
        Uuid::new_v4().to_string(),
        theirs.to_string(),
        "nonsense".to_owned(),
    ] {
        for (method, rest) in [("DELETE", ""), ("POST", "/default")] {
            let unknown = app.ask(&company.owner(), method, &at(&id, rest)).await;
            assert_eq!(
                (unknown.status, unknown.error()),
                (404, "PolarSelfPaymentMethodNotFound"),
                "{id}"
            );
        }
    }
    let empty = app.company().await;
    let none = app
        .ask(&empty.owner(), "GET", &empty.at("/payment-methods"))
        .await;
    assert_eq!(
        none.body,
        json!({"items": [], "pagination": {"total_count": 0, "max_page": 0}})
    );
}

#[tokio::test]
async fn a_session_is_begun_for_the_person_and_nothing_of_it_is_kept() {
    let app = ApiApp::open().await;
    let company = app.company().await;
    let path = company.at("/customer-session");
    let key = [("idempotency-key", "k")];
    let first = app.send(&company.owner(), "POST", &path, None, &key).await;
    let second = app.send(&company.owner(), "POST", &path, None, &key).await;
    assert_eq!((first.status, second.status), (201, 201), "{first:?}");
    assert_ne!(first.body["token"], second.body["token"]);
    assert_eq!(
        first.body.as_object().unwrap().len(),
        1,
        "no address with the token in it"
    );
    assert_eq!(first.headers["cache-control"], "no-store");
    let sent = app.writes().pop().unwrap();
    assert_eq!(
        sent.body,
        json!({"external_customer_id": company.id(), "external_member_id": company.tenant.owner})
    );
    assert_eq!(
        app.count("SELECT count(*) FROM polar_jobs.idempotent_requests")
            .await,
        0
    );
}

#[tokio::test]
async fn whom_polar_does_not_know_yet_is_made_known() {
    let app = ApiApp::open().await;
    let company = app.company().await;
    let admin = As::ServerFor(company.admin.clone());
    let at_polar = format!(
        "/v1/customers/external/{}/members/{}",
        company.id(),
        company.admin
    );
    app.at_polar("DELETE", &at_polar, None).await;
    let path = company.at("/customer-session");
    let early = app.ask(&admin, "POST", &path).await;
    assert_eq!(
        (early.status, early.error()),
        (409, "PolarSelfMemberNotReady")
    );
    assert!(early.retry_after().is_some());
    app.drain().await;
    assert_eq!(app.ask(&admin, "POST", &path).await.status, 201);
    let delete = format!("/v1/customers/external/{}?anonymize=true", company.id());
    app.at_polar("DELETE", &delete, None).await;
    for (method, route) in [
        ("GET", "/billing-details"),
        ("GET", "/payment-methods"),
        ("GET", "/benefit-grants"),
        ("POST", "/customer-session"),
    ] {
        let gone = app.ask(&company.owner(), method, &company.at(route)).await;
        assert_eq!(
            (gone.status, gone.error()),
            (404, "PolarSelfCustomerNotFound"),
            "{route}"
        );
    }
    app.drain().await;
    let back = app
        .ask(&company.owner(), "GET", &company.at("/billing-details"))
        .await;
    assert_eq!(back.status, 200);
}

#[tokio::test]
async fn a_person_whose_role_at_polar_is_too_small_is_refused() {
    let app = ApiApp::open().await;
    let company = app.company().await;
    let at_polar = format!(
        "/v1/customers/external/{}/members/{}",
        company.id(),
        company.admin
    );
    app.at_polar("PATCH", &at_polar, Some(&json!({"role": "member"})))
        .await;
    let admin = As::Browser(company.admin.clone());
    let refused = app
        .ask(&admin, "GET", &company.at("/payment-methods"))
        .await;
    assert_eq!((refused.status, refused.error()), (403, "NotPermitted"));
}

#[tokio::test]
async fn slack_channels_are_listed_and_somebody_is_invited() {
    let app = ApiApp::open().await;
    let company = app.customer_of(Product::Scale).await;
    app.simulator
        .add_slack_benefit(Product::Scale)
        .await
        .unwrap();
    let list = async || {
        app.ask(&company.owner(), "GET", &company.at("/benefit-grants"))
            .await
            .body
    };
    let grants = list().await;
    assert_eq!(
        grants["pagination"],
        json!({"total_count": 1, "max_page": 1}),
        "{grants:?}"
    );
    let id = grants["items"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(grants["items"][0]["is_connected"], false);
    let at = |id: &str| format!("/benefit-grants/{id}");
    let invited = tell(
        &app,
        &company,
        "PATCH",
        &at(&id),
        &json!({"invited_email": "a@example.com"}),
    )
    .await;
    assert_eq!(
        (invited.status, &invited.body["invited_email"]),
        (200, &json!("a@example.com")),
        "{invited:?}"
    );
    app.simulator
        .connect_slack(id.parse().unwrap())
        .await
        .unwrap();
    assert_eq!(list().await["items"][0]["is_connected"], true);
    for (id, email, status) in [
        (Uuid::new_v4().to_string(), "a@example.com", 404),
        ("nonsense".to_owned(), "a@example.com", 404),
        (id, "nobody", 422),
    ] {
        let refused = tell(
            &app,
            &company,
            "PATCH",
            &at(&id),
            &json!({"invited_email": email}),
        )
        .await;
        assert_eq!(refused.status, status, "{id} {refused:?}");
    }
}
