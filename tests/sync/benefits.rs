//! `apply_benefits` and `sync_subscription`: what a customer buys arrives here (polar-domain (d)).

use serde_json::{Map, Value, json};
use simulator::{Product, RequestMatch};

use crate::house::{House, PATIENCE, Tenant};

type Entitled = (Option<String>, bool, bool, String, Option<String>);
type Account = (i32, i32, i32);

/// A house with one synced organization.
async fn open() -> (House, Tenant) {
    let (house, tenant) = (House::open().await, Tenant::new());
    house.tell(&[tenant.created()]).await;
    house.settle().await;
    (house, tenant)
}

async fn entitled(house: &House, tenant: &Tenant) -> Entitled {
    sqlx::query_as(
        "SELECT support_tier, preview_access, sso_enabled, plan, subscription_status
           FROM polar_jobs.entitlements WHERE organization_id = $1::text::uuid",
    )
    .bind(&tenant.id)
    .fetch_one(&house.pool)
    .await
    .unwrap()
}

async fn fees(house: &House, tenant: &Tenant) -> Account {
    sqlx::query_as(
        "SELECT fee_basis_points, fee_fixed, subscription_fee_basis_points
           FROM polar_jobs.accounts WHERE organization_id = $1::text::uuid",
    )
    .bind(&tenant.id)
    .fetch_one(&house.pool)
    .await
    .unwrap()
}

fn free() -> Entitled {
    (None, false, false, "Free".to_owned(), None)
}

fn on_plan(tier: &str, preview: bool, sso: bool, plan: &str) -> Entitled {
    (
        Some(tier.to_owned()),
        preview,
        sso,
        plan.to_owned(),
        Some("active".to_owned()),
    )
}

fn metadata(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

async fn buy(house: &House, tenant: &Tenant, product: Product) {
    house.simulator.purchase(&tenant.id, product).await.unwrap();
    house.settle().await;
}

/// Polar's requests for active grants so far.
fn askings(house: &House) -> usize {
    let requests = house.simulator.requests();
    requests
        .iter()
        .filter(|request| request.path == "/v1/benefit-grants/")
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_switches_on_what_the_plan_grants() {
    let (house, tenant) = open().await;
    assert_eq!(
        (entitled(&house, &tenant).await, fees(&house, &tenant).await),
        (free(), (500, 50, 0))
    );
    buy(&house, &tenant, Product::Scale).await;
    assert_eq!(
        entitled(&house, &tenant).await,
        on_plan("scale", true, true, "Scale")
    );
    assert_eq!(fees(&house, &tenant).await, (340, 25, 0));
}

/// A blocked organization still pays, so it still has what it pays for (polar-domain (d.1)).
#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_organization_has_what_its_plan_grants() {
    let (house, tenant) = open().await;
    let blocked =
        json!({"type": "organization.updated", "data": {"id": tenant.id, "status": "blocked"}});
    house.tell(&[blocked]).await;
    house.settle().await;
    let there = "SELECT count(*) FROM polar_jobs.organizations WHERE status = 'blocked'";
    assert_eq!(house.count(there).await, 1);
    buy(&house, &tenant, Product::Pro).await;
    let (tier, ..) = entitled(&house, &tenant).await;
    assert_eq!(tier.as_deref(), Some("pro"));
    assert_eq!(fees(&house, &tenant).await, (380, 35, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_ends_with_the_new_plan_whichever_grant_comes_first() {
    for new_first in [true, false] {
        let (house, tenant) = open().await;
        buy(&house, &tenant, Product::Pro).await;
        assert_eq!(fees(&house, &tenant).await, (380, 35, 0));
        house
            .simulator
            .change_plan(&tenant.id, Product::Growth, new_first)
            .await
            .unwrap();
        house.settle_waits().await;
        assert_eq!(
            entitled(&house, &tenant).await,
            on_plan("growth", true, false, "Growth"),
            "new first: {new_first}"
        );
        assert_eq!(fees(&house, &tenant).await, (360, 30, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_subscription_restores_the_fees_of_the_organization_and_switches_off() {
    let (house, tenant) = (House::open().await, Tenant::new());
    let mut created = tenant.created();
    created["data"]["fees"] =
        json!({"basis_points": 400, "fixed": 40, "subscription_basis_points": 50});
    house.tell(&[created]).await;
    house.settle().await;
    buy(&house, &tenant, Product::Scale).await;
    house.simulator.revoke(&tenant.id).await.unwrap();
    house.settle().await;
    assert_eq!(entitled(&house, &tenant).await, free());
    assert_eq!(fees(&house, &tenant).await, (400, 40, 50));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_copy_of_an_old_delivery_changes_nothing() {
    let (house, tenant) = open().await;
    buy(&house, &tenant, Product::Growth).await;
    house.simulator.revoke(&tenant.id).await.unwrap();
    house.settle().await;
    buy(&house, &tenant, Product::Pro).await;
    let old: Vec<i64> = sqlx::query_scalar(
        "SELECT id FROM polar_jobs.external_events WHERE source = 'polar' AND type LIKE 'benefit_grant.%' ORDER BY id",
    )
    .fetch_all(&house.pool)
    .await
    .unwrap();
    let mut connection = house.pool.acquire().await.unwrap();
    for event in old {
        let body: Vec<u8> =
            sqlx::query_scalar("SELECT body FROM polar_jobs.external_events WHERE id = $1")
                .bind(event)
                .fetch_one(&house.pool)
                .await
                .unwrap();
        let job = jobs::NewJob::of(&jobs::ApplyBenefits::for_delivery(
            event,
            &polar::peek(&body),
        ))
        .caused_by(event);
        polar_jobs::queue::enqueue::insert(&mut connection, &job)
            .await
            .unwrap();
    }
    house.settle().await;
    assert_eq!(fees(&house, &tenant).await, (380, 35, 0));
    assert_eq!(
        entitled(&house, &tenant).await,
        on_plan("pro", false, false, "Pro")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_benefit_reaches_its_holders_without_any_grant_event() {
    let (house, tenant) = open().await;
    buy(&house, &tenant, Product::Pro).await;
    let edited = metadata(
        json!({"type": "transaction_fee", "fee_percent": "111", "fee_fixed": 1.0, "subscription_fee_percent": 2}),
    );
    house
        .simulator
        .edit_benefit_metadata(Product::Pro, "transaction_fee", edited)
        .await
        .unwrap();
    house.settle().await;
    assert_eq!(fees(&house, &tenant).await, (111, 1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_that_cannot_be_read_keeps_what_is_in_force_until_it_is_mended() {
    let (house, tenant) = open().await;
    buy(&house, &tenant, Product::Pro).await;
    let broken = metadata(
        json!({"type": "transaction_fee", "fee_percent": "much", "fee_fixed": 1, "subscription_fee_percent": 2}),
    );
    house
        .simulator
        .edit_benefit_metadata(Product::Pro, "transaction_fee", broken)
        .await
        .unwrap();
    house.settle().await;
    assert_eq!(fees(&house, &tenant).await, (380, 35, 0));
    let (error, failures): (String, i64) = sqlx::query_as(
        "SELECT errors -> -1 ->> 'error', jsonb_array_length(errors)::bigint FROM polar_jobs.jobs
          WHERE kind = 'apply_benefits' AND state = 'available'",
    )
    .fetch_one(&house.pool)
    .await
    .unwrap();
    assert!(error.contains("fee_percent") && failures >= 1, "{error}");
    let mended = metadata(
        json!({"type": "transaction_fee", "fee_percent": 222, "fee_fixed": 1, "subscription_fee_percent": 2}),
    );
    house
        .simulator
        .edit_benefit_metadata(Product::Pro, "transaction_fee", mended)
        .await
        .unwrap();
    house.settle_waits().await;
    assert_eq!(fees(&house, &tenant).await, (222, 1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_benefits_of_one_type_are_retried_until_the_budget_is_spent_and_the_rest_is_applied() {
    let (house, tenant) = open().await;
    buy(&house, &tenant, Product::Pro).await;
    let second = house
        .simulator
        .add_benefit(
            "Also support",
            metadata(json!({"type": "support", "level": 4, "slack": true, "prioritized": true})),
        )
        .await;
    let sso = house
        .simulator
        .add_benefit("SSO", metadata(json!({"type": "sso"})))
        .await;
    let fee = house
        .simulator
        .benefit_id(Product::Pro, "transaction_fee")
        .unwrap();
    let support = house.simulator.benefit_id(Product::Pro, "support").unwrap();
    house
        .simulator
        .set_benefits_of_product(Product::Pro, vec![fee, support, second, sso])
        .await
        .unwrap();
    house.settle_waits().await;
    let (state, reason) = house.end("apply_benefits").await;
    assert_eq!(state, "discarded");
    assert!(reason.contains("2 benefits of type support"), "{reason}");
    assert_eq!(
        entitled(&house, &tenant).await,
        on_plan("pro", false, true, "Pro"),
        "sso is on, support is as before"
    );
    house
        .simulator
        .set_benefits_of_product(Product::Pro, vec![fee, second, sso])
        .await
        .unwrap();
    house.settle_waits().await;
    assert_eq!(entitled(&house, &tenant).await.0.as_deref(), Some("scale"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_of_a_benefit_that_switches_nothing_on_asks_polar_nothing() {
    let (house, tenant) = open().await;
    buy(&house, &tenant, Product::Free).await;
    let before = askings(&house);
    let coffee = house
        .simulator
        .add_benefit("Coffee", metadata(json!({"type": "coffee"})))
        .await;
    house
        .simulator
        .set_benefits_of_product(Product::Free, vec![coffee])
        .await
        .unwrap();
    house.settle().await;
    let grants = "SELECT count(*) FROM polar_jobs.external_events WHERE type = 'benefit_grant.created' AND outcome = 'ignored'";
    assert_eq!(house.count(grants).await, 1);
    let by_state_change = house
        .ends("apply_benefits")
        .await
        .iter()
        .filter(|(outcome, _)| outcome == "applied")
        .count();
    assert!(askings(&house) - before <= by_state_change);
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_that_follow_a_plain_deletion_are_ignored_without_an_external_id() {
    let (house, tenant) = open().await;
    buy(&house, &tenant, Product::Growth).await;
    // Here first, so that the organization is known to be gone when the last words arrive.
    house.tell(&[tenant.deleted()]).await;
    let customer = house.simulator.customer(&tenant.id).unwrap().id;
    let gate = house
        .simulator
        .gate(RequestMatch::path(&customer.to_string()).method("DELETE"));
    tokio::join!(house.drain(), async {
        assert!(gate.wait_for(1, PATIENCE).await);
        house
            .polar()
            .customers()
            .delete_by_external_id(&tenant.id, polar::Deletion::Keep)
            .await
            .ok();
        gate.open();
    });
    house.settle().await;
    let failed = "SELECT count(*) FROM polar_jobs.external_events WHERE source = 'polar' AND outcome = 'failed'";
    assert_eq!(
        house.count(failed).await,
        0,
        "{:?}",
        house.ends("apply_benefits").await
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_deleted_plainly_at_polar_is_known_by_the_map_and_loses_its_plan_here() {
    let (house, tenant) = open().await;
    buy(&house, &tenant, Product::Growth).await;
    house
        .polar()
        .customers()
        .delete_by_external_id(&tenant.id, polar::Deletion::Keep)
        .await
        .unwrap();
    house.settle_waits().await;
    assert_eq!(
        (entitled(&house, &tenant).await, fees(&house, &tenant).await),
        (free(), (500, 50, 0))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mirror_follows_the_subscription_through_its_life() {
    let (house, tenant) = open().await;
    buy(&house, &tenant, Product::Pro).await;
    house
        .simulator
        .cancel_at_period_end(&tenant.id)
        .await
        .unwrap();
    house.settle().await;
    let cancelling = "SELECT count(*) FROM polar_jobs.subscriptions
                       WHERE cancel_at_period_end AND status = 'active' AND amount = 2000 AND currency = 'usd'
                         AND ends_at = current_period_end AND product_name = 'Pro'";
    assert_eq!(house.count(cancelling).await, 1);
    house.simulator.uncancel(&tenant.id).await.unwrap();
    house.simulator.fail_payment(&tenant.id).await.unwrap();
    house.settle().await;
    let subscription = house.simulator.subscriptions(&tenant.id).pop().unwrap();
    assert_eq!(
        entitled(&house, &tenant).await.4.as_deref(),
        Some(subscription.status.as_str())
    );
    assert_eq!(subscription.status, "past_due");
    house.simulator.revoke(&tenant.id).await.unwrap();
    house.settle().await;
    assert_eq!(house.count("SELECT count(*) FROM polar_jobs.subscriptions WHERE status = 'canceled' AND ended_at IS NOT NULL").await, 1);
    buy(&house, &tenant, Product::Growth).await;
    assert_eq!(entitled(&house, &tenant).await.3, "Growth");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_about_one_customer_asks_a_few_times_only() {
    let (house, tenant) = open().await;
    house
        .simulator
        .purchase(&tenant.id, Product::Scale)
        .await
        .unwrap();
    assert!(house.simulator.deliveries_settled(PATIENCE).await);
    let grants = house
        .count("SELECT count(*) FROM polar_jobs.external_events WHERE type LIKE 'benefit_grant.%'")
        .await;
    assert_eq!(grants, 4);
    assert_eq!(
        house
            .count("SELECT count(*) FROM polar_jobs.live_jobs WHERE kind = 'apply_benefits'")
            .await,
        1
    );
    house.settle().await;
    let settled = "SELECT count(*) FROM polar_jobs.external_events WHERE type LIKE 'benefit_grant.%' AND outcome = 'applied'";
    assert_eq!(
        house.count(settled).await,
        4,
        "every delivery knows what became of it"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_bought_while_billing_was_off_is_found_once_it_is_configured() {
    let (house, tenant) = open().await;
    house
        .simulator
        .purchase(&tenant.id, Product::Pro)
        .await
        .unwrap();
    assert!(house.simulator.deliveries_settled(PATIENCE).await);
    house.drain_without_billing().await;
    assert_eq!(entitled(&house, &tenant).await, free());
    house.settle().await;
    assert_eq!(
        entitled(&house, &tenant).await,
        on_plan("pro", false, false, "Pro")
    );
    assert!(
        jobs::backlog::page(&house.pool, None, 100)
            .await
            .unwrap()
            .jobs
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_that_names_nobody_is_discarded_with_its_reason() {
    let house = House::open().await;
    let event: i64 = sqlx::query_scalar(
        "INSERT INTO polar_jobs.stored_events (source, external_id, type, body)
         VALUES ('polar', 'garbage', 'benefit_grant.created', '{\"type\": \"benefit_grant.created\", \"data\": 7}') RETURNING id",
    )
    .fetch_one(&house.pool)
    .await
    .unwrap();
    let mut connection = house.pool.acquire().await.unwrap();
    let about = polar::peek(br#"{"type": "benefit_grant.created", "data": 7}"#);
    for job in [
        jobs::NewJob::of(&jobs::ApplyBenefits::for_delivery(event, &about)),
        jobs::NewJob::of(&jobs::SyncSubscription::for_delivery(event, &about)),
    ] {
        polar_jobs::queue::enqueue::insert(&mut connection, &job)
            .await
            .unwrap();
    }
    house.settle().await;
    for kind in ["apply_benefits", "sync_subscription"] {
        let (state, reason) = house.end(kind).await;
        assert_eq!(state, "discarded");
        assert!(reason.contains("cannot be read"), "{reason}");
    }
}
