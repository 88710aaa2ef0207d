//! The startup program.

use jobs::mirror::startup_programs::{self, Wanted};
use jobs::types::OrganizationId;
use jobs::{NewJob, ResumeSyncs, SyncStartupProgram};
use polar::Deletion;
use polar_jobs::queue::enqueue;
use serde_json::{Value, json};
use simulator::{Product, RequestMatch};
use uuid::Uuid;

use crate::app::{Answer, ApiApp, Company, IngressProcess, TOKEN_OF_PROCESS, http};
use crate::test_app::{DEADLINE, user};

/// An invitation as Polar holds it.
async fn invite(app: &ApiApp, company: &Company) -> String {
    let discount = app
        .at_polar(
            "POST",
            "/v1/discounts/",
            Some(&json!({"name": "Startup Program: Acme", "type": "percentage", "basis_points": 10000,
                "duration": "repeating", "duration_in_months": 12, "max_redemptions": 1,
                "metadata": {"startup_program": "true"}})),
        )
        .await;
    let id = discount["id"].as_str().unwrap().to_owned();
    point_to(app, company, &id).await;
    id
}

async fn point_to(app: &ApiApp, company: &Company, id: &str) {
    let path = format!("/v1/customers/external/{}", company.id());
    let metadata = json!({"metadata": {"slug": "acme", "startup_program_discount_id": id}});
    app.at_polar("PATCH", &path, Some(&metadata)).await;
}

async fn claim(app: &ApiApp, company: &Company) -> Answer {
    app.ask(
        &company.owner(),
        "POST",
        &company.at("/startup-program/claim"),
    )
    .await
}

async fn subscription(app: &ApiApp, company: &Company) -> Value {
    app.ask(&company.owner(), "GET", &company.at("/subscription"))
        .await
        .body
}

#[tokio::test]
async fn a_free_organization_claims_by_a_checkout_with_the_discount() {
    let app = ApiApp::open().await;
    let company = app.company().await;
    let discount = invite(&app, &company).await;
    let view = subscription(&app, &company).await;
    assert_eq!(view["startup_program_status"], "invited");
    assert_eq!(
        view["startup_program_scale_product_id"],
        json!(app.product(Product::Scale))
    );
    let claimed = claim(&app, &company).await;
    assert_eq!(claimed.status, 200, "{claimed:?}");
    assert_eq!(claimed.body["subscription"], Value::Null);
    assert!(claimed.body["checkout"]["url"].is_string());
    let sent = app.writes().pop().unwrap().body;
    assert_eq!(sent["discount_id"], json!(discount));
    assert_eq!(sent["products"], json!([app.product(Product::Scale)]));
}

#[tokio::test]
async fn a_paying_one_gets_plan_and_discount_at_once_and_only_once() {
    let app = ApiApp::open().await;
    let company = app.customer_of(Product::Pro).await;
    let discount = invite(&app, &company).await;
    let claimed = claim(&app, &company).await;
    assert_eq!(claimed.status, 200, "{claimed:?}");
    let view = &claimed.body["subscription"];
    assert_eq!(view["plan"]["name"], "Scale");
    assert_eq!(view["amount"], 0);
    assert_eq!(view["discount"]["discount_id"], json!(discount));
    assert!(view["discount"]["ends_at"].is_string());
    assert_eq!(view["startup_program_status"], "consumed");
    assert_eq!(
        app.subscription_changes(),
        [
            json!({"product_id": app.product(Product::Scale), "proration_behavior": "invoice", "discount_id": discount})
        ]
    );
    let again = claim(&app, &company).await;
    assert_eq!(
        (again.status, &again.body["detail"][0]["loc"]),
        (422, &json!(["body"]))
    );
}

#[tokio::test]
async fn one_on_scale_already_gets_the_discount_alone() {
    let app = ApiApp::open().await;
    let company = app.customer_of(Product::Scale).await;
    let discount = invite(&app, &company).await;
    assert_eq!(claim(&app, &company).await.status, 200);
    assert_eq!(
        app.subscription_changes(),
        [json!({"discount_id": discount})]
    );
}

#[tokio::test]
async fn one_that_was_about_to_leave_scale_keeps_what_it_claims() {
    let app = ApiApp::open().await;
    let company = app.customer_of(Product::Scale).await;
    let discount = invite(&app, &company).await;
    let path = company.at("/subscription");
    let pro = json!({ "product_id": app.product(Product::Pro) });
    let down = app.tell_api(&company.owner(), "PATCH", &path, &pro).await;
    assert_eq!(
        down.body["pending_change"]["product_id"], pro["product_id"],
        "{down:?}"
    );
    let claimed = claim(&app, &company).await;
    assert_eq!(claimed.status, 200, "{claimed:?}");
    let view = &claimed.body["subscription"];
    assert_eq!(
        (&view["plan"]["name"], &view["amount"]),
        (&json!("Scale"), &json!(0))
    );
    assert_eq!(view["pending_change"], Value::Null);
    assert_eq!(
        app.subscription_changes()[1..],
        [
            json!({"discount_id": discount}),
            json!({"pending_update": null})
        ]
    );
}

/// A company that pays for Scale, has cancelled and claims; the process dies when Polar has made this change
/// of the two that a claim is, and what it left behind has run.
async fn claim_that_dies_after(app: &ApiApp, change: usize) -> Value {
    let company = app.customer_of(Product::Scale).await;
    invite(app, &company).await;
    app.simulator
        .cancel_at_period_end(company.id())
        .await
        .unwrap();
    let patches = RequestMatch::path("/v1/subscriptions/").method("PATCH");
    let held = app.simulator.hold(patches.after_commit());
    held.release(change - 1);
    let scale = app.product(Product::Scale).to_string();
    let mut process = IngressProcess::start(app, &[("POLAR_SCALE_PRODUCT_ID", &scale)]).await;
    let path = company.at("/startup-program/claim");
    let url = format!("http://{}{path}", process.address);
    let asked = tokio::spawn(http().post(url).bearer_auth(TOKEN_OF_PROCESS).send());
    assert!(held.wait_for(change, DEADLINE).await, "Polar has made it");
    process.kill();
    assert!(asked.await.unwrap().is_err(), "nobody answered");
    held.release_all();
    let expire = "UPDATE polar_jobs.subscription_change_leases SET expires_at = clock_timestamp()";
    sqlx::query(expire).execute(&app.pool).await.unwrap();
    app.hurry().await;
    app.drain().await;
    subscription(app, &company).await
}

#[tokio::test]
async fn a_claim_that_dies_before_the_discount_leaves_a_cancelled_subscription_cancelled() {
    let app = ApiApp::open().await;
    let view = claim_that_dies_after(&app, 1).await;
    assert_eq!(view["discount"], Value::Null);
    assert_eq!(view["cancel_at_period_end"], true, "{view}");
    assert_eq!(app.end("restore_cancellation").await.0, "applied");
}

#[tokio::test]
async fn a_claim_that_dies_after_the_discount_is_not_undone() {
    let app = ApiApp::open().await;
    let view = claim_that_dies_after(&app, 2).await;
    assert_eq!(view["startup_program_status"], "consumed");
    assert_eq!(view["cancel_at_period_end"], false, "{view}");
    assert_eq!(app.end("restore_cancellation").await.0, "ignored");
}

#[tokio::test]
async fn moving_to_scale_uses_an_invitation_and_leaving_it_gives_up_that_discount_alone() {
    let app = ApiApp::open().await;
    let company = app.customer_of(Product::Pro).await;
    let discount = invite(&app, &company).await;
    let to = async |product| {
        let body = json!({"product_id": app.product(product)});
        app.tell_api(
            &company.owner(),
            "PATCH",
            &company.at("/subscription"),
            &body,
        )
        .await
    };
    assert_eq!(to(Product::Scale).await.status, 200);
    let left = to(Product::Pro).await;
    assert_eq!(left.status, 200, "{left:?}");
    assert_eq!(
        left.body["plan"]["name"], "Pro",
        "it costs more than nothing, so it comes at once"
    );
    assert_eq!(left.body["discount"], Value::Null);
    let plan = |product| json!(app.product(product));
    assert_eq!(
        app.subscription_changes(),
        [
            json!({"product_id": plan(Product::Scale), "proration_behavior": "invoice", "discount_id": discount}),
            json!({"product_id": plan(Product::Pro), "proration_behavior": "invoice", "discount_id": null}),
        ]
    );
    let other = app
        .at_polar(
            "POST",
            "/v1/discounts/",
            Some(&json!({"name": "Loyal", "type": "percentage",
            "basis_points": 1000, "duration": "forever"})),
        )
        .await;
    let subscription = app.simulator.subscriptions(company.id())[0].id;
    let path = format!("/v1/subscriptions/{subscription}");
    app.at_polar("PATCH", &path, Some(&json!({"discount_id": other["id"]})))
        .await;
    let kept = to(Product::Growth).await;
    assert_eq!(
        kept.body["discount"]["discount_id"], other["id"],
        "{kept:?}"
    );
}

#[tokio::test]
async fn who_is_not_invited_claims_nothing_and_a_dead_pointer_is_no_invitation() {
    let app = ApiApp::open().await;
    let company = app.customer_of(Product::Pro).await;
    let before = app.writes().len();
    let refused = async || {
        let answer = claim(&app, &company).await;
        assert_eq!(
            (answer.status, &answer.body["detail"][0]["loc"]),
            (422, &json!(["body"]))
        );
        assert_eq!(
            subscription(&app, &company).await["startup_program_status"],
            Value::Null
        );
    };
    refused().await;
    assert_eq!(app.writes().len(), before);
    point_to(&app, &company, &Uuid::new_v4().to_string()).await;
    refused().await;
    let unconfigured = ApiApp::with(|settings| settings.scale_product = None).await;
    let company = unconfigured.company().await;
    assert_eq!(claim(&unconfigured, &company).await.status, 422);
}

#[tokio::test]
async fn a_status_that_cannot_be_read_hides_no_subscription() {
    let app = ApiApp::open().await;
    let company = app.customer_of(Product::Pro).await;
    invite(&app, &company).await;
    app.simulator
        .withdraw_scopes(&["discounts:read", "discounts:write"]);
    let view = subscription(&app, &company).await;
    assert_eq!(view["plan"]["name"], "Pro");
    assert_eq!(view["startup_program_status"], Value::Null);
}

const WELCOMES: &str =
    "SELECT count(*) FROM polar_jobs.mails WHERE template = 'polar_self_startup_program_welcome'";

/// As an operator orders it.
async fn order(app: &ApiApp, company: &Company, invited: bool) -> Wanted {
    let mut connection = app.pool.acquire().await.unwrap();
    let organization = OrganizationId::parse(company.id()).unwrap();
    startup_programs::order(&mut connection, organization, invited)
        .await
        .unwrap();
    let job = NewJob::of(&SyncStartupProgram {
        organization_id: organization,
    });
    enqueue::insert(&mut connection, &job).await.unwrap();
    app.drain().await;
    let wanted = startup_programs::read(&app.pool, organization).await;
    wanted.unwrap().unwrap()
}

#[tokio::test]
async fn an_operator_invites_once_and_takes_back_what_was_not_used() {
    let app = ApiApp::open().await;
    let company = app.company().await;
    let path = format!("/v1/customers/external/{}", company.id());
    app.at_polar(
        "PATCH",
        &path,
        Some(&json!({"metadata": {"slug": "acme", "theirs": 7}})),
    )
    .await;
    let order = async |invited: bool| order(&app, &company, invited).await;
    let first = order(true).await;
    let again = order(true).await;
    assert_eq!(first.discount, again.discount, "a live invitation is kept");
    assert_eq!(
        subscription(&app, &company).await["startup_program_status"],
        "invited"
    );
    let metadata = app.simulator.customer(company.id()).unwrap().metadata;
    assert_eq!(metadata["theirs"], 7, "{metadata:?}");
    assert_eq!(
        app.count(WELCOMES).await,
        2,
        "one for the owner, one for the admin"
    );
    let created = app
        .writes()
        .into_iter()
        .filter(|w| w.path == "/v1/discounts/");
    let created: Vec<Value> = created.map(|write| write.body).collect();
    assert_eq!(created.len(), 1);
    assert!(created[0].get("products").is_none() && created[0].get("organization_id").is_none());
    assert_eq!(created[0]["max_redemptions"], 1);
    let revoked = order(false).await;
    assert_eq!((revoked.discount, revoked.refusal), (None, None));
    assert_eq!(
        subscription(&app, &company).await["startup_program_status"],
        Value::Null
    );
    let metadata = app.simulator.customer(company.id()).unwrap().metadata;
    assert_eq!(metadata["theirs"], 7);
    assert!(
        !metadata.contains_key("startup_program_discount_id"),
        "{metadata:?}"
    );
    order(true).await;
    app.simulator
        .purchase(company.id(), Product::Pro)
        .await
        .unwrap();
    assert_eq!(claim(&app, &company).await.status, 200);
    let used = order(false).await;
    assert_eq!(used.refusal.as_deref(), Some("the invitation was used"));
}

/// A worker without a token claims it while another release is rolled out, or it is given up.
#[tokio::test]
async fn an_order_that_was_not_carried_out_is_within_the_hour() {
    let app = ApiApp::open().await;
    let company = app.company().await;
    let organization_id = OrganizationId::parse(company.id()).unwrap();
    let mut connection = app.pool.acquire().await.unwrap();
    let ordered = startup_programs::order(&mut connection, organization_id, true).await;
    assert_eq!(ordered.unwrap(), 1);
    let job = NewJob::of(&SyncStartupProgram { organization_id });
    enqueue::insert(&mut connection, &job).await.unwrap();
    app.drain_without_billing().await;
    assert_eq!(app.end("sync_startup_program").await.0, "ignored");
    let resume = NewJob::of(&ResumeSyncs::default());
    for _ in 0..2 {
        enqueue::insert(&mut connection, &resume).await.unwrap();
        app.drain().await;
    }
    assert_eq!(
        subscription(&app, &company).await["startup_program_status"],
        "invited"
    );
    let ends = app.ends("sync_startup_program").await.len();
    assert_eq!(ends, 2, "what is done is not done again");
}

#[tokio::test]
async fn an_order_that_waits_for_a_scope_does_not_keep_the_customer_from_its_sync() {
    let app = ApiApp::open().await;
    let company = app.company().await;
    app.simulator.withdraw_scopes(&["discounts:write"]);
    order(&app, &company, true).await;
    let (outcome, note) = app.end("sync_startup_program").await;
    assert_eq!(outcome, "ignored");
    assert!(note.contains("discounts:write"), "{note}");
    let deleted = json!({"type": "organization.deleted", "data": {"id": company.id()}});
    app.tell(&[deleted]).await;
    // A deletion waits while any transaction here may still write usage.
    app.resolve_waits().await;
    assert!(app.simulator.customer(company.id()).is_none());
}

#[tokio::test]
async fn a_customer_that_is_made_anew_has_the_invitation_of_the_former_used_or_not() {
    let app = ApiApp::open().await;
    let company = app.company().await;
    app.simulator.set_webhook_url(None);
    let replace = async || {
        let polar = app.polar();
        let customers = polar.customers();
        let deleted = customers.delete_by_external_id(company.id(), Deletion::Keep);
        deleted.await.unwrap();
        let renamed =
            json!({"type": "organization.updated", "data": {"id": company.id(), "slug": user()}});
        app.tell(&[renamed]).await;
        app.resolve_waits().await;
        let view = subscription(&app, &company).await;
        view["startup_program_status"].clone()
    };
    assert_eq!(replace().await, Value::Null, "nobody invited it");
    let invited = order(&app, &company, true).await;
    assert_eq!(replace().await, "invited");
    app.simulator
        .purchase(company.id(), Product::Pro)
        .await
        .unwrap();
    assert_eq!(claim(&app, &company).await.status, 200);
    assert_eq!(replace().await, "consumed");
    let organization = OrganizationId::parse(company.id()).unwrap();
    let wanted = startup_programs::read(&app.pool, organization).await;
    assert_eq!(wanted.unwrap().unwrap().discount, invited.discount);
    assert_eq!(app.count(WELCOMES).await, 2, "nobody is told again");
}
