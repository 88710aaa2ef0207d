//! Billing off: everything is stored, and reported once it is configured.

use std::sync::{Arc, Mutex};

use chrono::Utc;
use jobs::{Job, MeterUsage, NewJob, ReportCosts, ReportUsage};
use polar::{Answer, BoxFuture, CallClass, Gate, Held};
use polar_jobs::queue::enqueue;
use serde_json::json;

use crate::house::{House, Tenant, user};

impl House {
    async fn enqueue(&self, job: NewJob) {
        let mut connection = self.pool.acquire().await.unwrap();
        enqueue::insert(&mut connection, &job).await.unwrap();
    }

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
    let (house, tenant, ada) = (House::open().await, Tenant::new(), user());
    house
        .tell(&[
            tenant.created(),
            tenant.added(&ada, "ada@example.com", "finance"),
            used(&tenant),
            spent(&tenant),
        ])
        .await;
    house.enqueue(NewJob::of(&ReportCosts {})).await;
    // A transaction of another test on this server may keep the reading for a later window.
    let counted = async || {
        house.enqueue(NewJob::of(&MeterUsage {})).await;
        house.drain_without_billing().await;
        !house.ends(ReportUsage::KIND).await.is_empty()
    };
    house.until("the reading is counted", counted).await;
    let off = ("ignored".to_owned(), "not configured".to_owned());
    for kind in ["sync_customer", "sync_member"] {
        assert_eq!(house.end(kind).await, off, "{kind}");
    }
    for kind in [ReportUsage::KIND, ReportCosts::KIND] {
        assert!(house.end(kind).await.1.contains("not configured"), "{kind}");
    }
    assert!(house.simulator.requests().is_empty());
    assert_eq!(house.backlog().await, 1);

    let worker = house.work();
    let there = async || house.role_at_polar(&tenant, &ada).as_deref() == Some("member");
    house.until("the member appears at Polar", there).await;
    assert!(house.simulator.customer(&tenant.id).is_some());
    // What the clock would do every few minutes.
    for job in [NewJob::of(&ReportUsage {}), NewJob::of(&ReportCosts {})] {
        house.enqueue(job).await;
    }
    let counted = async || house.simulator.event_sum("event_ingestion", &tenant.id) == 7;
    house.until("usage is reported", counted).await;
    let reported = "SELECT count(*) FROM polar_jobs.costs WHERE reported_at IS NOT NULL";
    let reported = async || house.count(reported).await == 1;
    house.until("costs are reported", reported).await;
    let nothing = async || house.backlog().await == 0;
    house.until("Polar knows everything", nothing).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_unfinished_job_looks_after_is_left_to_it() {
    let (house, tenant, ada) = (House::open().await, Tenant::new(), user());
    let told = [
        tenant.created(),
        tenant.added(&ada, "ada@example.com", "finance"),
    ];
    house.tell(&told).await;
    house.drain_without_billing().await;
    assert_eq!(house.backlog().await, 1);
    // One matter is the owner's, who has no job yet.
    let look_after = async |user: &str| {
        sqlx::query("SELECT polar_jobs.enqueue('sync_member', '{}', ordering_key => $1)")
            .bind(format!("sync_member/{}/{user}", tenant.id))
            .execute(&house.pool)
            .await
            .unwrap();
    };
    sqlx::query("UPDATE polar_jobs.organizations SET synced_event = event_id")
        .execute(&house.pool)
        .await
        .unwrap();
    look_after(&ada).await;
    assert_eq!(house.backlog().await, 1, "the owner is nobody's business");
    look_after(&tenant.owner).await;
    assert_eq!(house.backlog().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_drains_tells_everything_before_it_ends() {
    let house = House::open().await;
    let tenants: Vec<Tenant> = (0..5).map(|_| Tenant::new()).collect();
    let created: Vec<_> = tenants.iter().map(Tenant::created).collect();
    house.tell(&created).await;
    house.drain_without_billing().await;
    assert_eq!(house.backlog().await, 5);
    house.drain().await;
    for tenant in &tenants {
        assert!(house.simulator.customer(&tenant.id).is_some());
    }
    // Polar's own deliveries about them start jobs too.
    house.settle().await;
    let before = house.simulator.requests().len();
    house.drain().await;
    assert_eq!(
        house.simulator.requests().len(),
        before,
        "where Polar knows everything, nobody calls"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_database_only_delays_it() {
    let (house, tenant) = (House::open().await, Tenant::new());
    house.tell(&[tenant.created()]).await;
    house.drain_without_billing().await;
    let rename = "ALTER TABLE polar_jobs.organizations RENAME TO away";
    sqlx::query(rename).execute(&house.pool).await.unwrap();
    let worker = house.work();
    // The worker works meanwhile.
    house.enqueue(NewJob::of(&jobs::Prune {})).await;
    let pruned = "SELECT count(*) FROM polar_jobs.finished_jobs WHERE kind = 'prune'";
    let works = async || house.count(pruned).await == 1;
    house.until("the worker works", works).await;
    let back = "ALTER TABLE polar_jobs.away RENAME TO organizations";
    sqlx::query(back).execute(&house.pool).await.unwrap();
    let there = async || house.simulator.customer(&tenant.id).is_some();
    house.until("the customer appears at Polar", there).await;
    worker.stop().await;
}

/// Lets everybody pass and notes how urgent they are.
#[derive(Debug, Default)]
struct Noting(Mutex<Vec<CallClass>>);

impl Gate for Noting {
    fn enter(&self, class: CallClass) -> BoxFuture<'_, Result<(), Held>> {
        self.0.lock().unwrap().push(class);
        Box::pin(std::future::ready(Ok(())))
    }

    fn left(&self, _: Answer) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn its_calls_leave_the_budget_to_those_that_somebody_waits_for() {
    let (house, tenant) = (House::open().await, Tenant::new());
    house.tell(&[tenant.created()]).await;
    house.drain_without_billing().await;
    let gate = Arc::new(Noting::default());
    house.drain_through(Arc::clone(&gate) as _).await;
    let first = gate.0.lock().unwrap().first().copied();
    assert_eq!(first, Some(CallClass::Bulk));

    house.settle().await;
    let renamed =
        json!({"type": "organization.updated", "data": {"id": tenant.id, "name": "Acme & Co"}});
    house.tell(&[renamed]).await;
    let gate = Arc::new(Noting::default());
    house.drain_through(Arc::clone(&gate) as _).await;
    let first = gate.0.lock().unwrap().first().copied();
    assert_eq!(first, Some(CallClass::Entitlement));
}
