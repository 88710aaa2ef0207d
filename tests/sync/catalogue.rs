//! The catalogue at Polar changes, or is wrong: whom a benefit concerns, and what of it counts.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use polar::{
    Admission, Answer, BoxFuture, CallClass, CallFacts, RateLimiter, Rejected, RejectedReason,
};
use serde_json::{Value, json};
use simulator::Product;
use uuid::Uuid;

use crate::benefits::{buy, entitled, fees, metadata, on_plan, open};
use crate::test_app::{DEADLINE, Tenant, TestApp};

/// Refuses every call of the class that waits behind all others, and remembers the classes asked for.
#[derive(Default)]
struct NothingLeftOver(Mutex<Vec<CallClass>>);

impl RateLimiter for NothingLeftOver {
    fn acquire(&self, call: CallFacts) -> BoxFuture<'_, Result<Admission, Rejected>> {
        self.0.lock().unwrap().push(call.class);
        let rejected = Rejected {
            retry_after: Duration::from_secs(3600),
            reason: RejectedReason::Budget,
        };
        let answer = if call.class == CallClass::Bulk {
            Err(rejected)
        } else {
            Ok(Admission::Call)
        };
        Box::pin(std::future::ready(answer))
    }

    fn record(&self, _call: CallFacts, _admission: Admission, _answer: Answer) {}
}

async fn edit_fee_of_pro(app: &TestApp, fee_percent: i32) {
    let edited = metadata(
        json!({"type": "transaction_fee", "fee_percent": fee_percent, "fee_fixed": 1, "subscription_fee_percent": 2}),
    );
    app.simulator
        .edit_benefit_metadata(Product::Pro, "transaction_fee", edited)
        .await
        .unwrap();
    assert!(app.simulator.deliveries_finished(DEADLINE).await);
}

/// Gives Pro another benefit; its holders receive it.
async fn add_to_pro(app: &TestApp, description: &str, with: Value) {
    let mut benefits = Vec::new();
    for held in ["transaction_fee", "support"] {
        benefits.push(app.simulator.benefit_id(Product::Pro, held).unwrap());
    }
    benefits.push(app.simulator.add_benefit(description, metadata(with)).await);
    app.simulator
        .set_benefits_of_product(Product::Pro, benefits)
        .await
        .unwrap();
    assert!(app.simulator.deliveries_finished(DEADLINE).await);
}

/// Lets what waits now, mail apart, wait for an hour.
async fn postpone(app: &TestApp) {
    let postponed = sqlx::query(
        "UPDATE polar_jobs.live_jobs SET run_at = now() + interval '1 hour' WHERE worker IS NULL AND queue <> 'mail'",
    );
    assert_eq!(
        postponed.execute(&app.pool).await.unwrap().rows_affected(),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_benefit_reaches_its_holders_without_any_grant_event() {
    let (app, tenant) = open().await;
    buy(&app, &tenant, Product::Pro).await;
    let edited = metadata(
        json!({"type": "transaction_fee", "fee_percent": "111", "fee_fixed": 1.0, "subscription_fee_percent": 2}),
    );
    app.simulator
        .edit_benefit_metadata(Product::Pro, "transaction_fee", edited)
        .await
        .unwrap();
    app.work_until_idle().await;
    assert_eq!(fees(&app, &tenant).await, (111, 1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_that_cannot_be_read_keeps_what_is_in_force_until_it_is_corrected() {
    let (app, tenant) = open().await;
    buy(&app, &tenant, Product::Pro).await;
    let broken = metadata(
        json!({"type": "transaction_fee", "fee_percent": "much", "fee_fixed": 1, "subscription_fee_percent": 2}),
    );
    app.simulator
        .edit_benefit_metadata(Product::Pro, "transaction_fee", broken)
        .await
        .unwrap();
    app.work_until_idle().await;
    assert_eq!(fees(&app, &tenant).await, (380, 35, 0));
    let (error, failures): (String, i64) = sqlx::query_as(
        "SELECT errors -> -1 ->> 'error', jsonb_array_length(errors)::bigint FROM polar_jobs.jobs
          WHERE kind = 'apply_benefits' AND state = 'available'",
    )
    .fetch_one(&app.pool)
    .await
    .unwrap();
    assert!(error.contains("fee_percent") && failures >= 1, "{error}");
    let corrected = metadata(
        json!({"type": "transaction_fee", "fee_percent": 222, "fee_fixed": 1, "subscription_fee_percent": 2}),
    );
    app.simulator
        .edit_benefit_metadata(Product::Pro, "transaction_fee", corrected)
        .await
        .unwrap();
    app.resolve_waits().await;
    assert_eq!(fees(&app, &tenant).await, (222, 1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_benefits_of_one_type_are_retried_until_the_budget_is_spent_and_the_rest_is_applied() {
    let (app, tenant) = open().await;
    buy(&app, &tenant, Product::Pro).await;
    let second = app
        .simulator
        .add_benefit(
            "Also support",
            metadata(json!({"type": "support", "level": 4, "slack": true, "prioritized": true})),
        )
        .await;
    let sso = app
        .simulator
        .add_benefit("SSO", metadata(json!({"type": "sso"})))
        .await;
    let fee = app
        .simulator
        .benefit_id(Product::Pro, "transaction_fee")
        .unwrap();
    let support = app.simulator.benefit_id(Product::Pro, "support").unwrap();
    app.simulator
        .set_benefits_of_product(Product::Pro, vec![fee, support, second, sso])
        .await
        .unwrap();
    app.resolve_waits().await;
    let (state, reason) = app.end("apply_benefits").await;
    assert_eq!(state, "discarded");
    assert!(reason.contains("2 benefits of type support"), "{reason}");
    assert_eq!(
        entitled(&app, &tenant).await,
        on_plan("pro", false, true, "Pro"),
        "sso is on, support is as before"
    );
    let (subject, noted) = out_of_step(&app, &tenant).await.unwrap();
    assert_eq!(subject, "benefits");
    assert!(noted.contains("2 benefits of type support"), "{noted}");
    app.simulator
        .set_benefits_of_product(Product::Pro, vec![fee, second, sso])
        .await
        .unwrap();
    app.resolve_waits().await;
    assert_eq!(entitled(&app, &tenant).await.0.as_deref(), Some("scale"));
    assert_eq!(out_of_step(&app, &tenant).await, None);
}

/// What is noted about an organization, and why.
async fn out_of_step(app: &TestApp, tenant: &Tenant) -> Option<(String, String)> {
    sqlx::query_as(
        "SELECT subject, reason FROM polar_jobs.out_of_step WHERE organization_id = $1::uuid",
    )
    .bind(&tenant.id)
    .fetch_optional(&app.pool)
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nested_value_in_the_metadata_of_a_benefit_concerns_that_benefit_only() {
    let (app, tenant) = open().await;
    buy(&app, &tenant, Product::Pro).await;
    let odd = json!({"type": "sso", "regions": ["eu", {"and": "us"}]});
    add_to_pro(&app, "SSO", odd).await;
    app.work_until_idle().await;
    assert_eq!(
        entitled(&app, &tenant).await,
        on_plan("pro", false, true, "Pro")
    );
    let nested = json!({"type": "support", "level": {"of": 3}, "slack": true, "prioritized": true});
    app.simulator
        .edit_benefit_metadata(Product::Pro, "support", metadata(nested))
        .await
        .unwrap();
    edit_fee_of_pro(&app, 111).await;
    app.work_until_idle().await;
    assert_eq!(fees(&app, &tenant).await, (111, 1, 2), "fees can be read");
    assert_eq!(
        entitled(&app, &tenant).await,
        on_plan("pro", false, true, "Pro"),
        "support stays as it was"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn holders_of_a_changed_benefit_are_read_again_behind_what_people_buy() {
    let (app, tenant) = open().await;
    buy(&app, &tenant, Product::Pro).await;
    app.resolve_waits().await;
    edit_fee_of_pro(&app, 111).await;
    let busy = Arc::new(NothingLeftOver::default());
    app.drain_through(busy.clone()).await;
    assert_eq!(*busy.0.lock().unwrap(), [CallClass::Bulk]);
    assert_eq!(fees(&app, &tenant).await, (380, 35, 0));

    // A purchase by one of them makes its job urgent.
    add_to_pro(&app, "SSO", json!({"type": "sso"})).await;
    app.hurry().await;
    app.drain_through(busy.clone()).await;
    assert_eq!(fees(&app, &tenant).await, (111, 1, 2));
    assert!(entitled(&app, &tenant).await.2, "single sign-on is on");
}

/// A job that waits because a grant concerns nobody must not swallow a job that has a reason to ask.
#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_switches_nothing_on_takes_no_reason_to_ask_from_others() {
    let (app, tenant) = open().await;
    buy(&app, &tenant, Product::Pro).await;
    app.resolve_waits().await;
    app.simulator.set_webhook_url(None);
    edit_fee_of_pro(&app, 111).await;
    let customer = json!({"id": Uuid::new_v4(), "external_id": tenant.id});
    let coffee = json!({"id": Uuid::new_v4(), "customer_id": customer["id"], "customer": customer,
        "benefit_id": Uuid::new_v4(), "is_granted": true,
        "benefit": {"id": Uuid::new_v4(), "type": "custom", "metadata": {"type": "coffee"}}});
    app.deliver("benefit_grant.created", &coffee).await;
    postpone(&app).await;
    let fee = app.simulator.benefit_id(Product::Pro, "transaction_fee");
    app.deliver("benefit.updated", &json!({"id": fee})).await;
    app.resolve_waits().await;
    assert_eq!(fees(&app, &tenant).await, (111, 1, 2));
}
