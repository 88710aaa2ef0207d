//! Billing off: everything is stored, and reported once it is configured.

use std::sync::{Arc, Mutex};

use chrono::Utc;
use jobs::{Job, MeterUsage, NewJob, ReportCosts, ReportUsage};
use polar::{Admission, Answer, BoxFuture, CallClass, CallFacts, RateLimiter, Rejected};
use serde_json::json;

use crate::test_app::{Tenant, TestApp, user};

impl TestApp {
    async fn backlog(&self) -> usize {
        let page = jobs::backlog::page(&self.pool, None, 100).await.unwrap();
        page.jobs.len()
    }
}

fn used(tenant: &Tenant) -> serde_json::Value {
    json!({"type": "usage.recorded", "data": {"organization_id": tenant.id, "quantity": 7,
           "recorded_at": Utc::now()}})
}

fn spent(tenant: &Tenant) -> serde_json::Value {
    json!({"type": "cost.recorded", "data": {"organization_id": tenant.id, "source": "organization_review",
           "vendor": "openai", "model": "m", "input_tokens": 1, "output_tokens": 1, "cost_usd": "0.5"}})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_while_billing_was_off_is_told_by_the_first_worker_with_billing() {
    let (app, tenant, ada) = (TestApp::open().await, Tenant::new(), user());
    app.tell(&[
        tenant.created(),
        tenant.added(&ada, "ada@example.com", "finance"),
        used(&tenant),
        spent(&tenant),
    ])
    .await;
    app.enqueue(NewJob::of(&ReportCosts {})).await;
    // A transaction of another test on this server may keep the reading for a later window.
    let counted = async || {
        app.enqueue(NewJob::of(&MeterUsage {})).await;
        app.drain_without_billing().await;
        !app.ends(ReportUsage::KIND).await.is_empty()
    };
    app.until("the reading is counted", counted).await;
    let off = ("ignored".to_owned(), "not configured".to_owned());
    for kind in ["sync_customer", "sync_member"] {
        assert_eq!(app.end(kind).await, off, "{kind}");
    }
    for kind in [ReportUsage::KIND, ReportCosts::KIND] {
        assert!(app.end(kind).await.1.contains("not configured"), "{kind}");
    }
    assert!(app.simulator.requests().is_empty());
    assert_eq!(app.backlog().await, 1);

    let worker = app.work();
    let there = async || app.role_at_polar(&tenant, &ada).as_deref() == Some("member");
    app.until("the member appears at Polar", there).await;
    assert!(app.simulator.customer(&tenant.id).is_some());
    // What the clock would do every few minutes.
    for job in [NewJob::of(&ReportUsage {}), NewJob::of(&ReportCosts {})] {
        app.enqueue(job).await;
    }
    let counted = async || app.simulator.event_sum("event_ingestion", &tenant.id) == 7;
    app.until("usage is reported", counted).await;
    let reported = "SELECT count(*) FROM polar_jobs.costs WHERE reported_at IS NOT NULL";
    let reported = async || app.count(reported).await == 1;
    app.until("costs are reported", reported).await;
    let nothing = async || app.backlog().await == 0;
    app.until("Polar knows everything", nothing).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_unfinished_job_looks_after_is_left_to_it() {
    let (app, tenant, ada) = (TestApp::open().await, Tenant::new(), user());
    let changes = [
        tenant.created(),
        tenant.added(&ada, "ada@example.com", "finance"),
    ];
    app.tell(&changes).await;
    app.drain_without_billing().await;
    assert_eq!(app.backlog().await, 1);
    // One matter is the owner's, who has no job yet.
    let look_after = async |user: &str| {
        sqlx::query("SELECT polar_jobs.enqueue('sync_member', '{}', ordering_key => $1)")
            .bind(format!("sync_member/{}/{user}", tenant.id))
            .execute(&app.pool)
            .await
            .unwrap();
    };
    sqlx::query("UPDATE polar_jobs.organizations SET synced_event = event_id")
        .execute(&app.pool)
        .await
        .unwrap();
    look_after(&ada).await;
    assert_eq!(app.backlog().await, 1, "the owner is nobody's business");
    look_after(&tenant.owner).await;
    assert_eq!(app.backlog().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_drains_tells_everything_before_it_ends() {
    let app = TestApp::open().await;
    let tenants: Vec<Tenant> = (0..5).map(|_| Tenant::new()).collect();
    let created: Vec<_> = tenants.iter().map(Tenant::created).collect();
    app.tell(&created).await;
    app.drain_without_billing().await;
    assert_eq!(app.backlog().await, 5);
    app.drain().await;
    for tenant in &tenants {
        assert!(app.simulator.customer(&tenant.id).is_some());
    }
    // Polar's own deliveries about them start jobs too.
    app.work_until_idle().await;
    let before = app.simulator.requests().len();
    app.drain().await;
    assert_eq!(
        app.simulator.requests().len(),
        before,
        "where Polar knows everything, nobody calls"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_database_only_delays_it() {
    let (app, tenant) = (TestApp::open().await, Tenant::new());
    app.tell(&[tenant.created()]).await;
    app.drain_without_billing().await;
    let rename = "ALTER TABLE polar_jobs.organizations RENAME TO away";
    sqlx::query(rename).execute(&app.pool).await.unwrap();
    let worker = app.work();
    // The worker works meanwhile.
    app.enqueue(NewJob::of(&jobs::ReportCosts {})).await;
    let reported = "SELECT count(*) FROM polar_jobs.finished_jobs WHERE kind = 'report_costs'";
    let works = async || app.count(reported).await > 0;
    app.until("the worker works", works).await;
    let back = "ALTER TABLE polar_jobs.away RENAME TO organizations";
    sqlx::query(back).execute(&app.pool).await.unwrap();
    let there = async || app.simulator.customer(&tenant.id).is_some();
    app.until("the customer appears at Polar", there).await;
    worker.stop().await;
}

/// Lets everybody pass and notes how urgent they are.
#[derive(Debug, Default)]
struct Noting(Mutex<Vec<CallClass>>);

impl RateLimiter for Noting {
    fn acquire(&self, call: CallFacts) -> BoxFuture<'_, Result<Admission, Rejected>> {
        self.0.lock().unwrap().push(call.class);
        Box::pin(std::future::ready(Ok(Admission::Call)))
    }

    fn record(&self, _: CallFacts, _: Admission, _: Answer) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn its_calls_leave_the_budget_to_those_that_somebody_waits_for() {
    let (app, tenant) = (TestApp::open().await, Tenant::new());
    app.tell(&[tenant.created()]).await;
    app.drain_without_billing().await;
    let limiter = Arc::new(Noting::default());
    app.drain_through(Arc::clone(&limiter) as _).await;
    let first = limiter.0.lock().unwrap().first().copied();
    assert_eq!(first, Some(CallClass::Bulk));

    app.work_until_idle().await;
    let renamed =
        json!({"type": "organization.updated", "data": {"id": tenant.id, "name": "Acme & Co"}});
    app.tell(&[renamed]).await;
    let limiter = Arc::new(Noting::default());
    app.drain_through(Arc::clone(&limiter) as _).await;
    let first = limiter.0.lock().unwrap().first().copied();
    assert_eq!(first, Some(CallClass::Entitlement));
}
