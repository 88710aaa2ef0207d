//! `apply_benefits` and `sync_subscription`: what a customer buys arrives here.

use serde_json::{Map, Value, json};
use simulator::{Product, RequestMatch};
use uuid::Uuid;

use crate::test_app::{DEADLINE, Tenant, TestApp};

pub(crate) type Entitled = (Option<String>, bool, bool, String, Option<String>);
pub(crate) type Account = (i32, i32, i32);

/// An installation with one synced organization.
pub(crate) async fn open() -> (TestApp, Tenant) {
    let (app, tenant) = (TestApp::open().await, Tenant::new());
    app.tell(&[tenant.created()]).await;
    app.work_until_idle().await;
    (app, tenant)
}

pub(crate) async fn entitled(app: &TestApp, tenant: &Tenant) -> Entitled {
    sqlx::query_as(
        "SELECT support_tier, preview_access, sso_enabled, plan, subscription_status
           FROM polar_jobs.entitlements WHERE organization_id = $1::text::uuid",
    )
    .bind(&tenant.id)
    .fetch_one(&app.pool)
    .await
    .unwrap()
}

pub(crate) async fn fees(app: &TestApp, tenant: &Tenant) -> Account {
    sqlx::query_as(
        "SELECT fee_basis_points, fee_fixed, subscription_fee_basis_points
           FROM polar_jobs.accounts WHERE organization_id = $1::text::uuid",
    )
    .bind(&tenant.id)
    .fetch_one(&app.pool)
    .await
    .unwrap()
}

fn free() -> Entitled {
    (None, false, false, "Free".to_owned(), None)
}

pub(crate) fn on_plan(tier: &str, preview: bool, sso: bool, plan: &str) -> Entitled {
    (
        Some(tier.to_owned()),
        preview,
        sso,
        plan.to_owned(),
        Some("active".to_owned()),
    )
}

pub(crate) fn metadata(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

pub(crate) async fn buy(app: &TestApp, tenant: &Tenant, product: Product) {
    app.simulator.purchase(&tenant.id, product).await.unwrap();
    app.work_until_idle().await;
}

/// Polar's requests for active grants so far.
fn askings(app: &TestApp) -> usize {
    let requests = app.simulator.requests();
    requests
        .iter()
        .filter(|request| request.path == "/v1/benefit-grants/")
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_switches_on_what_the_plan_grants() {
    let (app, tenant) = open().await;
    assert_eq!(
        (entitled(&app, &tenant).await, fees(&app, &tenant).await),
        (free(), (500, 50, 0))
    );
    buy(&app, &tenant, Product::Scale).await;
    assert_eq!(
        entitled(&app, &tenant).await,
        on_plan("scale", true, true, "Scale")
    );
    assert_eq!(fees(&app, &tenant).await, (340, 25, 0));
}

/// A blocked organization still pays, so it still has what it pays for.
#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_organization_has_what_its_plan_grants() {
    let (app, tenant) = open().await;
    let blocked =
        json!({"type": "organization.updated", "data": {"id": tenant.id, "status": "blocked"}});
    app.tell(&[blocked]).await;
    app.work_until_idle().await;
    let there = "SELECT count(*) FROM polar_jobs.organizations WHERE status = 'blocked'";
    assert_eq!(app.count(there).await, 1);
    buy(&app, &tenant, Product::Pro).await;
    let (tier, ..) = entitled(&app, &tenant).await;
    assert_eq!(tier.as_deref(), Some("pro"));
    assert_eq!(fees(&app, &tenant).await, (380, 35, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_ends_with_the_new_plan_whichever_grant_comes_first() {
    for new_first in [true, false] {
        let (app, tenant) = open().await;
        buy(&app, &tenant, Product::Pro).await;
        assert_eq!(fees(&app, &tenant).await, (380, 35, 0));
        app.simulator
            .change_plan(&tenant.id, Product::Growth, new_first)
            .await
            .unwrap();
        app.resolve_waits().await;
        assert_eq!(
            entitled(&app, &tenant).await,
            on_plan("growth", true, false, "Growth"),
            "new first: {new_first}"
        );
        assert_eq!(fees(&app, &tenant).await, (360, 30, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_subscription_restores_the_fees_of_the_organization_and_switches_off() {
    let (app, tenant) = (TestApp::open().await, Tenant::new());
    let mut created = tenant.created();
    created["data"]["fees"] =
        json!({"basis_points": 400, "fixed": 40, "subscription_basis_points": 50});
    app.tell(&[created]).await;
    app.work_until_idle().await;
    buy(&app, &tenant, Product::Scale).await;
    app.simulator.revoke(&tenant.id).await.unwrap();
    app.work_until_idle().await;
    assert_eq!(entitled(&app, &tenant).await, free());
    assert_eq!(fees(&app, &tenant).await, (400, 40, 50));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_copy_of_an_old_delivery_changes_nothing() {
    let (app, tenant) = open().await;
    buy(&app, &tenant, Product::Growth).await;
    app.simulator.revoke(&tenant.id).await.unwrap();
    app.work_until_idle().await;
    buy(&app, &tenant, Product::Pro).await;
    let old: Vec<i64> = sqlx::query_scalar(
        "SELECT id FROM polar_jobs.external_events WHERE source = 'polar' AND type LIKE 'benefit_grant.%' ORDER BY id",
    )
    .fetch_all(&app.pool)
    .await
    .unwrap();
    let mut connection = app.pool.acquire().await.unwrap();
    for event in old {
        let body: Vec<u8> =
            sqlx::query_scalar("SELECT body FROM polar_jobs.external_events WHERE id = $1")
                .bind(event)
                .fetch_one(&app.pool)
                .await
                .unwrap();
        let job = jobs::NewJob::of(&jobs::ApplyBenefits::for_delivery(&polar::peek(&body)))
            .caused_by(event);
        polar_jobs::queue::enqueue::insert(&mut connection, &job)
            .await
            .unwrap();
    }
    app.work_until_idle().await;
    assert_eq!(fees(&app, &tenant).await, (380, 35, 0));
    assert_eq!(
        entitled(&app, &tenant).await,
        on_plan("pro", false, false, "Pro")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_of_a_benefit_that_switches_nothing_on_asks_polar_nothing() {
    let (app, tenant) = open().await;
    buy(&app, &tenant, Product::Free).await;
    let before = askings(&app);
    let coffee = app
        .simulator
        .add_benefit("Coffee", metadata(json!({"type": "coffee"})))
        .await;
    app.simulator
        .set_benefits_of_product(Product::Free, vec![coffee])
        .await
        .unwrap();
    app.work_until_idle().await;
    let grants = "SELECT count(*) FROM polar_jobs.external_events WHERE type = 'benefit_grant.created' AND outcome = 'ignored'";
    assert_eq!(app.count(grants).await, 1);
    let by_state_change = app
        .ends("apply_benefits")
        .await
        .iter()
        .filter(|(outcome, _)| outcome == "applied")
        .count();
    assert!(askings(&app) - before <= by_state_change);
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_that_follow_a_plain_deletion_are_ignored_without_an_external_id() {
    let (app, tenant) = open().await;
    buy(&app, &tenant, Product::Growth).await;
    // Here first, so that the organization is known to be gone when the last words arrive.
    app.tell(&[tenant.deleted()]).await;
    let customer = app.simulator.customer(&tenant.id).unwrap().id;
    let held = app
        .simulator
        .hold(RequestMatch::path(&customer.to_string()).method("DELETE"));
    tokio::join!(app.resolve_waits(), async {
        assert!(held.wait_for(1, DEADLINE).await);
        app.polar()
            .customers()
            .delete_by_external_id(&tenant.id, polar::Deletion::Keep)
            .await
            .ok();
        held.release_all();
    });
    app.work_until_idle().await;
    let failed = "SELECT count(*) FROM polar_jobs.external_events WHERE source = 'polar' AND outcome = 'failed'";
    assert_eq!(
        app.count(failed).await,
        0,
        "{:?}",
        app.ends("apply_benefits").await
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_deleted_plainly_at_polar_is_known_by_the_map_and_loses_its_plan_here() {
    let (app, tenant) = open().await;
    buy(&app, &tenant, Product::Growth).await;
    app.polar()
        .customers()
        .delete_by_external_id(&tenant.id, polar::Deletion::Keep)
        .await
        .unwrap();
    app.resolve_waits().await;
    assert_eq!(
        (entitled(&app, &tenant).await, fees(&app, &tenant).await),
        (free(), (500, 50, 0))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mirror_follows_the_subscription_through_its_life() {
    let (app, tenant) = open().await;
    buy(&app, &tenant, Product::Pro).await;
    app.simulator
        .cancel_at_period_end(&tenant.id)
        .await
        .unwrap();
    app.work_until_idle().await;
    let cancelling = "SELECT count(*) FROM polar_jobs.subscriptions
                       WHERE cancel_at_period_end AND status = 'active' AND amount = 2000 AND currency = 'usd'
                         AND ends_at = current_period_end AND product_name = 'Pro'";
    assert_eq!(app.count(cancelling).await, 1);
    app.simulator.uncancel(&tenant.id).await.unwrap();
    app.simulator.fail_payment(&tenant.id).await.unwrap();
    app.work_until_idle().await;
    let subscription = app.simulator.subscriptions(&tenant.id).pop().unwrap();
    assert_eq!(
        entitled(&app, &tenant).await.4.as_deref(),
        Some(subscription.status.as_str())
    );
    assert_eq!(subscription.status, "past_due");
    app.simulator.revoke(&tenant.id).await.unwrap();
    app.work_until_idle().await;
    assert_eq!(app.count("SELECT count(*) FROM polar_jobs.subscriptions WHERE status = 'canceled' AND ended_at IS NOT NULL").await, 1);
    buy(&app, &tenant, Product::Growth).await;
    assert_eq!(entitled(&app, &tenant).await.3, "Growth");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_about_one_customer_asks_a_few_times_only() {
    let (app, tenant) = open().await;
    app.simulator
        .purchase(&tenant.id, Product::Scale)
        .await
        .unwrap();
    assert!(app.simulator.deliveries_finished(DEADLINE).await);
    let grants = app
        .count("SELECT count(*) FROM polar_jobs.external_events WHERE type LIKE 'benefit_grant.%'")
        .await;
    assert_eq!(grants, 4);
    assert_eq!(
        app.count("SELECT count(*) FROM polar_jobs.live_jobs WHERE kind = 'apply_benefits'")
            .await,
        1
    );
    app.work_until_idle().await;
    let applied = "SELECT count(*) FROM polar_jobs.external_events WHERE type LIKE 'benefit_grant.%' AND outcome = 'applied'";
    assert_eq!(
        app.count(applied).await,
        4,
        "every delivery knows what became of it"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_bought_while_billing_was_off_is_found_once_it_is_configured() {
    let (app, tenant) = open().await;
    app.simulator
        .purchase(&tenant.id, Product::Pro)
        .await
        .unwrap();
    assert!(app.simulator.deliveries_finished(DEADLINE).await);
    app.drain_without_billing().await;
    assert_eq!(entitled(&app, &tenant).await, free());
    app.work_until_idle().await;
    assert_eq!(
        entitled(&app, &tenant).await,
        on_plan("pro", false, false, "Pro")
    );
    assert!(
        jobs::backlog::page(&app.pool, None, 100)
            .await
            .unwrap()
            .jobs
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_that_names_nobody_is_discarded_with_its_reason() {
    let app = TestApp::open().await;
    for event_type in ["benefit_grant.created", "subscription.updated"] {
        app.deliver(event_type, &json!(7)).await;
    }
    app.work_until_idle().await;
    let failed = "SELECT count(*) FROM polar_jobs.external_events WHERE outcome = 'failed'";
    assert_eq!(app.count(failed).await, 2);
    for kind in ["apply_benefits", "sync_subscription"] {
        let (state, reason) = app.end(kind).await;
        assert_eq!(state, "discarded");
        assert!(reason.contains("cannot be read"), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_subscriptions_with_the_same_benefit_count_once() {
    let (app, tenant) = open().await;
    buy(&app, &tenant, Product::Pro).await;
    buy(&app, &tenant, Product::Pro).await;
    let (tier, ..) = entitled(&app, &tenant).await;
    assert_eq!(tier.as_deref(), Some("pro"));
    assert_eq!(fees(&app, &tenant).await, (380, 35, 0));
    let given_up =
        "SELECT count(*) FROM polar_jobs.jobs WHERE state = 'discarded' OR errors <> '[]'";
    assert_eq!(app.count(given_up).await, 0);
}

/// The metadata name no type, or one that nobody here knows.
#[tokio::test(flavor = "multi_thread")]
async fn a_grant_of_an_unknown_type_does_nothing_and_calls_nobody() {
    let (app, tenant) = open().await;
    let before = app.simulator.requests().len();
    for benefit in [
        json!({"metadata": {}}),
        json!({"metadata": {"type": "tea"}}),
        json!({"metadata": {"type": 7}}),
    ] {
        let data = json!({"id": Uuid::new_v4(), "customer": {"external_id": tenant.id}, "benefit": benefit});
        for event_type in [
            "benefit_grant.created",
            "benefit_grant.updated",
            "benefit_grant.revoked",
        ] {
            app.deliver(event_type, &data).await;
        }
    }
    app.work_until_idle().await;
    assert_eq!(app.simulator.requests().len(), before);
    let ignored = "SELECT count(*) FROM polar_jobs.external_events WHERE type LIKE 'benefit_grant.%' AND outcome = 'ignored'";
    assert_eq!(app.count(ignored).await, 9);
    assert_eq!(
        app.end("apply_benefits").await.1,
        "the benefit switches nothing on here"
    );
}

/// Grants of an organization that was never announced end quietly: no fees, no flags, no call.
#[tokio::test(flavor = "multi_thread")]
async fn a_grant_for_an_organization_that_is_not_known_ends_quietly() {
    let app = TestApp::open().await;
    let stranger = Tenant::new();
    for benefit_type in ["transaction_fee", "support", "preview_access", "sso"] {
        let data = json!({"id": Uuid::new_v4(), "customer": {"external_id": stranger.id},
            "benefit": {"metadata": {"type": benefit_type}}});
        app.deliver("benefit_grant.created", &data).await;
        app.work_until_idle().await;
        assert_eq!(
            app.end("apply_benefits").await,
            (
                "ignored".to_owned(),
                "the organization is not known here".to_owned()
            )
        );
    }
    assert!(app.simulator.requests().is_empty());
    assert_eq!(
        app.count("SELECT count(*) FROM polar_jobs.accounts").await,
        0
    );
}

/// What was given up while Polar was down is asked for again later, without another delivery.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_up_while_polar_was_down_is_asked_for_again() {
    let (app, tenant) = open().await;
    app.simulator
        .set_faults("calls=1".parse::<simulator::Faults>().unwrap());
    let grant = json!({"id": Uuid::new_v4(), "customer": {"external_id": tenant.id}, "benefit": {"metadata": {"type": "sso"}}});
    app.deliver("benefit_grant.created", &grant).await;
    sqlx::query("UPDATE polar_jobs.live_jobs SET max_attempts = 1")
        .execute(&app.pool)
        .await
        .unwrap();
    app.resolve_waits().await;
    assert_eq!(app.end("apply_benefits").await.0, "discarded");
    let stale = "SELECT count(*) FROM polar_jobs.organizations WHERE stale";
    assert_eq!(app.count(stale).await, 1);

    app.simulator.set_faults(simulator::Faults::default());
    app.simulator.purchase(&tenant.id, Product::Pro).await.ok();
    app.resolve_waits().await;
    assert_eq!(entitled(&app, &tenant).await.0.as_deref(), Some("pro"));
    assert_eq!(app.count(stale).await, 0);
}
