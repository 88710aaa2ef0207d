//! What was given up: noted with its reason, and tried again where that is of use.

use jobs::{NewJob, ResumeSyncs};
use private_postgres::testing::sessions_waiting_for_a_lock;
use serde_json::json;
use simulator::{Faults, RequestMatch};

use crate::test_app::{DEADLINE, Tenant, TestApp, user};

const NOTED: &str = "SELECT count(*) FROM polar_jobs.out_of_step";

impl TestApp {
    async fn given_up(&self) -> i64 {
        self.count("SELECT count(*) FROM polar_jobs.jobs WHERE state = 'discarded'")
            .await
    }

    /// Lets the jobs of members that wait try once more, and no further time; returns how many were given up.
    async fn spend_budgets(&self) -> i64 {
        sqlx::query("UPDATE polar_jobs.live_jobs SET max_attempts = 1 WHERE kind = 'sync_member' AND worker IS NULL")
            .execute(&self.pool)
            .await
            .unwrap();
        self.hurry().await;
        self.given_up().await
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
    let app = TestApp::open().await;
    let tenants = [Tenant::new(), Tenant::new(), Tenant::new()];
    for tenant in &tenants {
        let mut created = tenant.created();
        created["data"]["owner"]["email"] = json!("owner@undeliverable.test");
        app.tell(&[created]).await;
    }
    let (tenant, ada) = (Tenant::new(), user());
    app.tell(&[
        tenant.created(),
        tenant.added(&ada, "ada@undeliverable.test", "member"),
    ])
    .await;
    app.work_until_idle().await;
    app.age_refusals().await;
    app.resolve_waits().await;
    assert_eq!(app.given_up().await, 4);
    let written = app.writes().len();
    for _start in 0..3 {
        app.resolve_waits().await;
    }
    // Nor is a change of something else worth a try.
    app.tell(&[
        json!({"type": "organization.updated", "data": {"id": tenant.id, "slug": "acme-2"}}),
    ])
    .await;
    app.resolve_waits().await;
    assert_eq!(app.given_up().await, 4);
    assert_eq!(app.writes().len(), written + 1, "the slug");

    // What came while nothing was sent to Polar is worth one.
    for (user, email) in [
        (&tenants[0].owner, "owner@example.com"),
        (&ada, "ada@example.com"),
    ] {
        app.tell(&[json!({"type": "user.updated", "data": {"id": user, "email": email}})])
            .await;
    }
    app.drain_without_billing().await;
    app.resolve_waits().await;
    assert!(app.simulator.customer(&tenants[0].id).is_some());
    assert!(app.member(&tenant, &ada).is_some());
    assert_eq!(app.count(NOTED).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_budget_was_spent_comes_again_within_the_hour_without_a_restart() {
    let (app, tenant, ada) = (TestApp::open().await, Tenant::new(), user());
    app.tell(&[tenant.created()]).await;
    app.resolve_waits().await;
    let worker = app.work();
    app.simulator.set_faults(Faults {
        error_before: 1.0,
        ..Faults::default()
    });
    app.tell(&[tenant.added(&ada, "ada@example.com", "admin")])
        .await;
    let spent = async || app.spend_budgets().await == 1;
    app.until("the budget is spent", spent).await;
    app.simulator.set_faults(Faults::default());
    // It was tried just now: what always fails costs one try an hour.
    app.resume().await;
    let looked = async || app.ends("resume_syncs").await.len() == 1;
    app.until("somebody looked for it", looked).await;
    let waiting = "SELECT count(*) FROM polar_jobs.live_jobs WHERE kind LIKE 'sync_%'";
    assert_eq!(app.count(waiting).await, 0);
    app.hour_passes().await;
    app.resume().await;
    let there = async || app.role_at_polar(&tenant, &ada).as_deref() == Some("billing_manager");
    app.until("it comes again", there).await;
    let gone = async || app.count(NOTED).await == 0;
    app.until("the note is gone", gone).await;
    worker.stop().await;
}

/// Polar may have who was added by a call whose answer was lost.
#[tokio::test(flavor = "multi_thread")]
async fn who_left_and_was_never_confirmed_is_tried_again_within_the_hour() {
    let (app, tenant, ada) = (TestApp::open().await, Tenant::new(), user());
    app.tell(&[tenant.created()]).await;
    app.resolve_waits().await;
    app.simulator.set_faults(Faults {
        error_before: 1.0,
        ..Faults::default()
    });
    let worker = app.work();
    let changes = [
        tenant.added(&ada, "ada@example.com", "admin"),
        tenant.removed(&ada),
    ];
    for (change, count) in changes.iter().zip(1..) {
        app.tell(std::slice::from_ref(change)).await;
        let spent = async || app.spend_budgets().await == count;
        app.until("the budget is spent", spent).await;
    }
    app.simulator.set_faults(Faults::default());
    assert_eq!(app.count(NOTED).await, 1);
    app.hour_passes().await;
    app.resume().await;
    let gone = async || app.count(NOTED).await == 0;
    app.until("the note is gone", gone).await;
    worker.stop().await;
}

/// Otherwise it would stay, and an organization that is created anew would never be in step.
#[tokio::test(flavor = "multi_thread")]
async fn what_fails_while_its_organization_is_deleted_leaves_no_note() {
    let (tenant, bob) = (Tenant::new(), user());
    // One waits for an address, the other has none.
    for failing in [
        tenant.added(&bob, "owner@example.com", "member"),
        tenant.transferred(&bob),
    ] {
        let app = TestApp::open().await;
        app.tell(&[tenant.created()]).await;
        app.resolve_waits().await;
        let looked_at = RequestMatch::path(&format!("members/{bob}")).method("GET");
        let looked_at = app.simulator.hold(looked_at);
        let worker = app.work();
        app.tell(std::slice::from_ref(&failing)).await;
        assert!(looked_at.wait_for(1, DEADLINE).await);
        app.tell(&[tenant.deleted()]).await;
        let deleted = "SELECT count(*) FROM polar_jobs.organizations WHERE deleted_at IS NOT NULL";
        let deleted = async || app.count(deleted).await == 1;
        app.until("the deletion is applied", deleted).await;
        looked_at.release_all();
        let unfinished = "SELECT count(*) FROM polar_jobs.live_jobs WHERE kind = 'sync_member'";
        let ended = async || app.count(unfinished).await == 0;
        app.until("the member's job ends", ended).await;
        assert_eq!(app.count(NOTED).await, 0, "{failing}");
        worker.stop().await;
        app.resolve_waits().await;
        app.tell(&[tenant.created()]).await;
        app.resolve_waits().await;
        let in_step = "SELECT count(*) FROM polar_jobs.organization_overview WHERE in_step";
        assert_eq!(app.count(in_step).await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_note_and_the_deletion_of_its_organization_wait_for_each_other() {
    const NOTE: &str = "SELECT polar_jobs.note_out_of_step($1::text::uuid, 'member/' || gen_random_uuid(), 'refused')";
    let app = TestApp::open().await;
    let (first, second) = (Tenant::new(), Tenant::new());
    app.tell(&[first.created(), second.created()]).await;
    app.resolve_waits().await;

    let mut noting = app.pool.begin().await.unwrap();
    let waits: Option<i32> = sqlx::query_scalar(NOTE)
        .bind(&first.id)
        .fetch_one(&mut *noting)
        .await
        .unwrap();
    assert_eq!(waits, Some(0));
    app.tell(&[first.deleted()]).await;
    let worker = app.work();
    let queued = async || sessions_waiting_for_a_lock(&app.pool).await > 0;
    app.until("the deletion waits for the note", queued).await;
    noting.commit().await.unwrap();
    worker.stop().await;
    app.resolve_waits().await;
    assert_eq!(app.count(NOTED).await, 0);

    let mut deleting = app.pool.begin().await.unwrap();
    sqlx::query("UPDATE polar_jobs.organizations SET deleted_at = now() WHERE id = $1::text::uuid")
        .bind(&second.id)
        .execute(&mut *deleting)
        .await
        .unwrap();
    let noting = sqlx::query_scalar(NOTE).bind(&second.id);
    let (waits, ()) = tokio::join!(noting.fetch_one(&app.pool), async {
        app.until("the note waits for the deletion", queued).await;
        deleting.commit().await.unwrap();
    });
    let waits: Option<i32> = waits.unwrap();
    assert_eq!(waits, None);
    assert_eq!(app.count(NOTED).await, 0);
}
