//! Requests that come again with the same `Idempotency-Key`.

use serde_json::{Value, json};
use simulator::{Product, RequestMatch};

use crate::app::{Answer, ApiApp, As, Company, IngressProcess, TOKEN_OF_PROCESS};
use crate::test_app::DEADLINE;

async fn with_key(
    app: &ApiApp,
    who: &As,
    company: &Company,
    key: &str,
    method: &str,
    body: Option<&Value>,
) -> Answer {
    let path = company.at("/subscription");
    app.send(who, method, &path, body, &[("idempotency-key", key)])
        .await
}

#[tokio::test]
async fn the_first_answer_comes_again_to_the_same_person_route_and_body_only() {
    let app = ApiApp::open().await;
    let company = app.company().await;
    let body = json!({"product_id": app.product(Product::Pro)});
    let other = json!({"product_id": app.product(Product::Scale)});
    let (owner, admin) = (company.owner(), As::ServerFor(company.admin.clone()));
    let first = with_key(&app, &owner, &company, "k", "POST", Some(&body)).await;
    let again = with_key(&app, &owner, &company, "k", "POST", Some(&body)).await;
    assert_eq!((first.status, again.status), (201, 201));
    assert_eq!(first.body, again.body);
    let reused = with_key(&app, &owner, &company, "k", "POST", Some(&other)).await;
    assert_eq!(
        (reused.status, reused.error()),
        (422, "IdempotencyKeyReused")
    );
    let others = with_key(&app, &admin, &company, "k", "POST", Some(&body)).await;
    assert_ne!(others.body["checkout_id"], first.body["checkout_id"]);
    let refused = with_key(&app, &owner, &company, "d", "DELETE", None).await;
    app.simulator
        .purchase(company.id(), Product::Pro)
        .await
        .unwrap();
    let still = with_key(&app, &owner, &company, "d", "DELETE", None).await;
    assert_eq!(
        (refused.status, still.status),
        (404, 404),
        "a refusal is kept too"
    );
    for bad in ["", "a b", &"x".repeat(256)] {
        let answer = with_key(&app, &owner, &company, bad, "DELETE", None).await;
        assert_eq!(answer.status, 400, "{bad:?}");
    }
}

#[tokio::test]
async fn a_day_later_the_key_is_free() {
    let app = ApiApp::open().await;
    let company = app.company().await;
    let refused = with_key(&app, &company.owner(), &company, "k", "DELETE", None).await;
    assert_eq!(refused.status, 404);
    app.simulator
        .purchase(company.id(), Product::Pro)
        .await
        .unwrap();
    let age =
        "UPDATE polar_jobs.idempotent_requests SET started_at = started_at - interval '25 hours'";
    sqlx::query(age).execute(&app.pool).await.unwrap();
    let ended = with_key(&app, &company.owner(), &company, "k", "DELETE", None).await;
    assert_eq!(ended.status, 200);
}

#[tokio::test]
async fn a_customer_that_was_being_made_is_found_with_the_same_key() {
    let app = ApiApp::open().await;
    let company = app.company().await;
    let delete = format!("/v1/customers/external/{}?anonymize=true", company.id());
    app.at_polar("DELETE", &delete, None).await;
    let path = company.at("/billing-details");
    let body = json!({"billing_name": "Acme"});
    let key = [("idempotency-key", "k")];
    let tell = async || {
        app.send(&company.owner(), "PATCH", &path, Some(&body), &key)
            .await
    };
    let early = tell().await;
    assert_eq!(
        (early.status, early.error()),
        (404, "PolarSelfCustomerNotFound")
    );
    app.drain().await;
    let found = tell().await;
    assert_eq!(found.status, 200, "{found:?}");
}

#[tokio::test]
async fn one_that_comes_again_while_the_first_is_under_way_is_asked_to_wait() {
    let app = ApiApp::open().await;
    let company = app.customer_of(Product::Pro).await;
    let held = app
        .simulator
        .hold(RequestMatch::path("/v1/subscriptions/").method("PATCH"));
    let owner = company.owner();
    let first = with_key(&app, &owner, &company, "k", "DELETE", None);
    let (first, ()) = futures::join!(first, async {
        assert!(held.wait_for(1, DEADLINE).await);
        let meanwhile = with_key(&app, &owner, &company, "k", "DELETE", None).await;
        assert_eq!(
            (meanwhile.status, meanwhile.error()),
            (409, "RequestInProgress")
        );
        assert!(meanwhile.retry_after().is_some());
        let other_key = with_key(&app, &owner, &company, "other", "DELETE", None).await;
        assert_eq!(
            (other_key.status, other_key.error()),
            (409, "PolarSelfSubscriptionBusy")
        );
        held.release_all();
    });
    assert_eq!(first.status, 200);
    let again = with_key(&app, &owner, &company, "other", "DELETE", None).await;
    assert_eq!(again.status, 200, "being asked to wait is not kept");
}

#[tokio::test]
async fn an_answer_that_could_not_be_known_is_not_kept() {
    let app = ApiApp::open().await;
    let company = app.customer_of(Product::Pro).await;
    app.simulator.fail_customer(company.id());
    let down = with_key(&app, &company.owner(), &company, "k", "DELETE", None).await;
    assert_eq!(down.status, 503);
    app.simulator.fail_nobody();
    let done = with_key(&app, &company.owner(), &company, "k", "DELETE", None).await;
    assert_eq!(
        (done.status, &done.body["cancel_at_period_end"]),
        (200, &json!(true))
    );
}

#[tokio::test]
async fn after_kill_9_between_polars_answer_and_ours_the_same_key_tells_the_truth() {
    let app = ApiApp::with(|settings| settings.app_token = Some(TOKEN_OF_PROCESS.into())).await;
    let company = app.customer_of(Product::Pro).await;
    let patches = RequestMatch::path("/v1/subscriptions/").method("PATCH");
    let held = app.simulator.hold(patches.after_commit());
    let mut process = IngressProcess::start(&app, &[]).await;
    let http = crate::app::http();
    let body = json!({"product_id": app.product(Product::Scale)});
    let url = format!("http://{}{}", process.address, company.at("/subscription"));
    let request = |url: &str| {
        let request = http.patch(url).bearer_auth(TOKEN_OF_PROCESS).json(&body);
        request.header("idempotency-key", "k").send()
    };
    let asked = tokio::spawn(request(&url));
    assert!(
        held.wait_for(1, DEADLINE).await,
        "Polar has made the change"
    );
    process.kill();
    assert!(asked.await.unwrap().is_err(), "nobody answered");
    held.release_all();
    let here = format!("http://{}{}", app.address, company.at("/subscription"));
    let early = request(&here).await.unwrap();
    assert_eq!(early.status(), 409, "it may still be under way");
    // What the dead process held runs out.
    for expire in [
        "UPDATE polar_jobs.idempotent_requests SET busy_until = clock_timestamp()",
        "UPDATE polar_jobs.subscription_change_leases SET expires_at = clock_timestamp()",
    ] {
        sqlx::query(expire).execute(&app.pool).await.unwrap();
    }
    let answer = request(&here).await.unwrap();
    assert_eq!(answer.status(), 200);
    let view: Value = answer.json().await.unwrap();
    assert_eq!(view["plan"]["name"], "Scale");
    assert_eq!(app.subscription_changes().len(), 1, "it is not made again");
    app.hurry().await;
    app.drain().await;
    assert_eq!(
        app.plan_in_tables(&company).await.0,
        "Scale",
        "the job that was written before"
    );
}

#[tokio::test]
async fn a_key_beside_an_id_of_any_length_changes_no_answer() {
    let app = ApiApp::open().await;
    let company = app.company().await;
    // Longer than an index takes, however well it is compressed.
    let id: String = (0..120).map(|_| uuid::Uuid::new_v4().to_string()).collect();
    let path = company.at(&format!("/payment-methods/{id}"));
    for _ in 0..2 {
        let headers = [("idempotency-key", "k")];
        let answer = app
            .send(&company.owner(), "DELETE", &path, None, &headers)
            .await;
        assert_eq!(answer.status, 404, "{answer:?}");
    }
}
