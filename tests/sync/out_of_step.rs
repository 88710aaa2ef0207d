//! What was given up: noted with its reason, and tried again where that is of use.

use jobs::{NewJob, ResumeSyncs};
use serde_json::json;
use simulator::Faults;

use crate::house::{House, Tenant, user};

impl House {
    async fn given_up(&self) -> i64 {
        self.count("SELECT count(*) FROM polar_jobs.jobs WHERE state = 'discarded'")
            .await
    }

    async fn hour_passes(&self) {
        sqlx::query("UPDATE polar_jobs.out_of_step SET tried_at = tried_at - interval '1 hour'")
            .execute(&self.pool)
            .await
            .unwrap();
    }

    /// The worker that goes on stands; what its clock would write is written here.
    async fn resume(&self) {
        let mut connection = self.pool.acquire().await.unwrap();
        polar_jobs::queue::enqueue::insert(&mut connection, &NewJob::of(&ResumeSyncs::default()))
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_of_a_worker_does_not_try_again_what_polar_refuses_as_it_is() {
    let house = House::open().await;
    let tenants = [Tenant::new(), Tenant::new(), Tenant::new()];
    for tenant in &tenants {
        let mut created = tenant.created();
        created["data"]["owner"]["email"] = json!("owner@undeliverable.test");
        house.tell(&[created]).await;
    }
    let (tenant, ada) = (Tenant::new(), user());
    house
        .tell(&[
            tenant.created(),
            tenant.added(&ada, "ada@undeliverable.test", "member"),
        ])
        .await;
    house.settle().await;
    house.age_refusals().await;
    house.settle_waits().await;
    assert_eq!(house.given_up().await, 4);
    let written = house.writes().len();
    for _start in 0..3 {
        house.settle_waits().await;
    }
    // Nor is a change of something else worth a try.
    house
        .tell(&[
            json!({"type": "organization.updated", "data": {"id": tenant.id, "slug": "acme-2"}}),
        ])
        .await;
    house.settle_waits().await;
    assert_eq!(house.given_up().await, 4);
    assert_eq!(house.writes().len(), written + 1, "the slug");

    // What came while nobody told Polar is worth one.
    for (user, email) in [
        (&tenants[0].owner, "owner@example.com"),
        (&ada, "ada@example.com"),
    ] {
        house
            .tell(&[json!({"type": "user.updated", "data": {"id": user, "email": email}})])
            .await;
    }
    house.drain_without_billing().await;
    house.settle_waits().await;
    assert!(house.simulator.customer(&tenants[0].id).is_some());
    assert!(house.member(&tenant, &ada).is_some());
    let noted = "SELECT count(*) FROM polar_jobs.out_of_step";
    assert_eq!(house.count(noted).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_budget_was_spent_comes_again_within_the_hour_without_a_restart() {
    let (house, tenant, ada) = (House::open().await, Tenant::new(), user());
    house.tell(&[tenant.created()]).await;
    house.settle_waits().await;
    let worker = house.work();
    house.simulator.set_faults(Faults {
        error_before: 1.0,
        ..Faults::default()
    });
    house
        .tell(&[tenant.added(&ada, "ada@example.com", "admin")])
        .await;
    let spent = async || {
        sqlx::query("UPDATE polar_jobs.live_jobs SET max_attempts = 1 WHERE kind = 'sync_member' AND worker IS NULL")
            .execute(&house.pool)
            .await
            .unwrap();
        house.hurry().await;
        house.given_up().await == 1
    };
    house.until("the budget is spent", spent).await;
    house.simulator.set_faults(Faults::default());
    // It was tried just now: what always fails costs one try an hour.
    house.resume().await;
    let looked = async || house.ends("resume_syncs").await.len() == 1;
    house.until("somebody looked for it", looked).await;
    let waiting = "SELECT count(*) FROM polar_jobs.live_jobs WHERE kind LIKE 'sync_%'";
    assert_eq!(house.count(waiting).await, 0);
    house.hour_passes().await;
    house.resume().await;
    let there = async || house.role_at_polar(&tenant, &ada).as_deref() == Some("billing_manager");
    house.until("it comes again", there).await;
    let noted = "SELECT count(*) FROM polar_jobs.out_of_step";
    let gone = async || house.count(noted).await == 0;
    house.until("the note is gone", gone).await;
    worker.stop().await;
}
