//! Two transactions about the same rows take them in the same order, or come behind each other: neither waits for the
//! other for good.

use jobs::types::{OrganizationId, UserId};
use jobs::{NewJob, Prune, SyncCustomer, SyncMember};
use private_postgres::testing::sessions_waiting_for_a_lock;
use serde_json::{Value, json};
use sqlx::{Postgres, Transaction};

use crate::test_app::{RunningWorker, Tenant, TestApp, user};

impl TestApp {
    /// Stops whoever fires this trigger until the transaction ends: for each statement before they hold any row, for
    /// each row when they hold it.
    async fn hold(&self, trigger: &str) -> Transaction<'static, Postgres> {
        let hold = format!(
            "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN OLD; END $$;
             CREATE TRIGGER hold BEFORE {trigger} EXECUTE FUNCTION hold()"
        );
        let hold = sqlx::AssertSqlSafe(hold);
        sqlx::raw_sql(hold).execute(&self.pool).await.unwrap();
        let mut held = self.pool.begin().await.unwrap();
        let lock = sqlx::query("SELECT pg_advisory_xact_lock(1)");
        lock.execute(&mut *held).await.unwrap();
        held
    }

    async fn until_waiting(&self, many: i64) {
        let waiting = async || sessions_waiting_for_a_lock(&self.pool).await == many;
        self.until("what meets waits for each other", waiting).await;
    }

    /// Everything is done, and no job failed on the way.
    async fn nothing_failed(&self, worker: RunningWorker) {
        let live = "SELECT count(*) FROM polar_jobs.live_jobs";
        self.until("all is done", async || self.count(live).await == 0)
            .await;
        worker.stop().await;
        let errors = "SELECT errors FROM polar_jobs.jobs WHERE errors <> '[]'";
        let errors: Vec<Value> = sqlx::query_scalar(errors)
            .fetch_all(&self.pool)
            .await
            .unwrap();
        assert!(errors.is_empty(), "{errors:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_is_confirmed_while_its_first_delivery_is_applied() {
    let (app, tenant) = (TestApp::open().await, Tenant::new());
    app.tell(&[tenant.created()]).await;
    app.drain_without_billing().await;
    app.simulator.set_webhook_url(None);
    let team = json!({"type": "team", "name": "By hand", "external_id": tenant.id,
                      "owner": {"email": "owner@example.com", "name": "Olga"}});
    let customer = app.at_polar("POST", "/v1/customers/", Some(&team)).await;

    let held = app
        .hold("UPDATE ON polar_jobs.organizations FOR EACH STATEMENT")
        .await;
    // It brings what came while billing was not configured.
    let worker = app.work();
    app.until_waiting(1).await;
    let grant = json!({"id": uuid::Uuid::new_v4(), "customer_id": customer["id"], "customer": customer,
                       "benefit": {"metadata": {"type": "sso"}}});
    app.deliver("benefit_grant.created", &grant).await;
    app.until_waiting(2).await;
    held.rollback().await.unwrap();

    app.nothing_failed(worker).await;
}

/// An organization with Ada at Polar.
async fn with_ada() -> (TestApp, Tenant, String) {
    let (app, tenant, ada) = (TestApp::open().await, Tenant::new(), user());
    let changes = [
        tenant.created(),
        tenant.added(&ada, "ada@example.com", "member"),
    ];
    app.tell(&changes).await;
    app.resolve_waits().await;
    (app, tenant, ada)
}

fn sync_member(tenant: &Tenant, user: &str) -> NewJob {
    NewJob::of(&SyncMember {
        organization_id: OrganizationId::parse(&tenant.id).unwrap(),
        user_id: UserId::parse(user).unwrap(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_is_replaced_while_a_member_is_confirmed() {
    let (app, tenant, ada) = with_ada().await;
    let note = "SELECT polar_jobs.note_out_of_step($1::uuid, 'member/' || $2, 'to be tried again')";
    let note = sqlx::query(note).bind(&tenant.id).bind(&ada);
    note.execute(&app.pool).await.unwrap();
    let at = format!("/v1/customers/external/{}", tenant.id);
    app.simulator.set_webhook_url(None);
    app.at_polar("DELETE", &at, None).await;
    let team = json!({"type": "team", "name": "By hand", "external_id": tenant.id,
                      "owner": {"email": "owner@example.com", "name": "Olga", "external_id": tenant.owner}});
    app.at_polar("POST", "/v1/customers/", Some(&team)).await;

    let held = app
        .hold("DELETE ON polar_jobs.out_of_step FOR EACH ROW WHEN (OLD.subject LIKE 'member/%')")
        .await;
    let worker = app.work();
    app.enqueue(sync_member(&tenant, &ada)).await;
    app.until_waiting(1).await;
    let organization_id = OrganizationId::parse(&tenant.id).unwrap();
    app.enqueue(NewJob::of(&SyncCustomer { organization_id }))
        .await;
    app.until_waiting(2).await;
    held.rollback().await.unwrap();
    app.nothing_failed(worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_is_confirmed_while_a_change_of_the_person_is_applied() {
    let (app, tenant, ada) = with_ada().await;
    let refused = "UPDATE polar_jobs.people SET undeliverable_at = now() WHERE user_id = $1::uuid";
    let refused = sqlx::query(refused).bind(&ada);
    refused.execute(&app.pool).await.unwrap();
    let held = app
        .hold("UPDATE ON polar_jobs.people FOR EACH STATEMENT")
        .await;
    let worker = app.work();
    app.enqueue(sync_member(&tenant, &ada)).await;
    app.until_waiting(1).await;
    app.tell(&[tenant.added(&ada, "ada@example.com", "admin")])
        .await;
    app.until_waiting(2).await;
    held.rollback().await.unwrap();
    app.nothing_failed(worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_runs_that_prune_come_behind_each_other() {
    let app = TestApp::open().await;
    let held = app
        .hold("DELETE ON polar_jobs.idempotent_requests FOR EACH STATEMENT")
        .await;
    let worker = app.work();
    app.enqueue(NewJob::of(&Prune::default())).await;
    app.until_waiting(1).await;
    app.enqueue(NewJob::of(&Prune::default())).await;
    let blocked = "SELECT count(*) FROM polar_jobs.jobs WHERE kind = 'prune' AND blocked";
    assert_eq!(app.count(blocked).await, 1);
    held.rollback().await.unwrap();
    app.nothing_failed(worker).await;
}
