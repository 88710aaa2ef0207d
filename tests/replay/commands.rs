//! The command beside the application.

use serde_json::{Value, json};

use crate::support::{Said, run_beside};
use crate::test_app::{Tenant, TestApp};

impl TestApp {
    /// Runs a command with the same database and Polar.
    pub(crate) async fn command(&self, arguments: &[&str]) -> Said {
        run_beside(&self.environment(), arguments).await
    }

    /// The ids of the events of a type, oldest first.
    pub(crate) async fn events(&self, event_type: &str) -> Vec<String> {
        sqlx::query_scalar(
            "SELECT id::text FROM polar_jobs.external_events WHERE type = $1 ORDER BY id",
        )
        .bind(event_type)
        .fetch_all(&self.pool)
        .await
        .unwrap()
    }

    pub(crate) async fn outcome(&self, event: &str) -> Option<String> {
        sqlx::query_scalar("SELECT outcome FROM polar_jobs.external_events WHERE id = $1::bigint")
            .bind(event)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    /// The name of an organization in our tables.
    pub(crate) async fn name(&self, tenant: &Tenant) -> String {
        sqlx::query_scalar("SELECT name FROM polar_jobs.organizations WHERE id = $1::uuid")
            .bind(&tenant.id)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }
}

pub(crate) fn renamed(tenant: &Tenant, name: &str) -> Value {
    json!({"type": "organization.updated", "data": {"id": tenant.id, "name": name}})
}
