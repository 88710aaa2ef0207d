//! Two transactions about the same rows take them in the same order, so neither waits for the other for good.

use serde_json::{Value, json};
use sqlx::{Postgres, Transaction};

use crate::test_app::{Tenant, TestApp};

/// Who waits for a lock of any kind.
const WAITING: &str = "SELECT count(*) FROM pg_stat_activity
     WHERE datname = current_database() AND wait_event_type = 'Lock'";

impl TestApp {
    /// Stops whoever begins to update this table, before they hold any of its rows, until the transaction ends.
    async fn hold_updates_of(&self, table: &str) -> Transaction<'static, Postgres> {
        let hold = format!(
            "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NULL; END $$;
             CREATE TRIGGER hold BEFORE UPDATE ON polar_jobs.{table} FOR EACH STATEMENT EXECUTE FUNCTION hold()"
        );
        let hold = sqlx::AssertSqlSafe(hold);
        sqlx::raw_sql(hold).execute(&self.pool).await.unwrap();
        let mut held = self.pool.begin().await.unwrap();
        let lock = sqlx::query("SELECT pg_advisory_xact_lock(1)");
        lock.execute(&mut *held).await.unwrap();
        held
    }

    async fn until_waiting(&self, many: i64) {
        let waiting = async || self.count(WAITING).await == many;
        self.until("what meets waits for each other", waiting).await;
    }

    /// What went wrong, in all jobs.
    async fn errors(&self) -> Vec<Value> {
        let errors = sqlx::query_scalar("SELECT errors FROM polar_jobs.jobs WHERE errors <> '[]'");
        errors.fetch_all(&self.pool).await.unwrap()
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

    let held = app.hold_updates_of("organizations").await;
    // It brings what came while billing was not configured.
    let worker = app.work();
    app.until_waiting(1).await;
    let grant = json!({"id": uuid::Uuid::new_v4(), "customer_id": customer["id"], "customer": customer,
                       "benefit": {"metadata": {"type": "sso"}}});
    app.deliver("benefit_grant.created", &grant).await;
    app.until_waiting(2).await;
    held.rollback().await.unwrap();

    let live = "SELECT count(*) FROM polar_jobs.live_jobs";
    app.until("both jobs are done", async || app.count(live).await == 0)
        .await;
    worker.stop().await;
    assert_eq!(app.errors().await, Vec::<Value>::new());
}
