//! The product as it is installed: its own processes, and an application that speaks SQL.

use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use sqlx::PgExecutor;
use uuid::Uuid;

use crate::test_app::TestApp;

/// `polar-jobs` with the settings of a test.
pub(crate) fn polar_jobs(app: &TestApp, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_polar-jobs"));
    command
        .args(arguments)
        .current_dir(env!("CARGO_TARGET_TMPDIR"))
        .env_clear()
        .env("DATABASE_URL", &app.url)
        .env("POLAR_ACCESS_TOKEN", app.simulator.access_token())
        .env("POLAR_ORGANIZATION_ID", app.self_organization.to_string())
        .env("POLAR_API_URL", app.simulator.url())
        .env("POLAR_RATE_LIMIT", "60000");
    command
}

/// A worker that runs until it is killed; at the latest when it is dropped.
pub(crate) struct Worker(Child);

impl Worker {
    pub(crate) fn start(app: &TestApp) -> Self {
        let mut command = polar_jobs(app, &["worker"]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self(child.unwrap())
    }

    /// `SIGKILL`.
    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Runs whatever is runnable, in a process that ends with it.
pub(crate) async fn drain(app: &TestApp) {
    let mut command = polar_jobs(app, &["worker", "--drain"]);
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    let output = output.unwrap().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Counts and reports now instead of at the next tick.
pub(crate) async fn enqueue_reports(app: &TestApp) {
    for kind in ["meter_usage", "report_usage", "report_costs"] {
        sqlx::query("SELECT polar_jobs.enqueue($1, '{}', unique_key => $1, ordering_key => $2)")
            .bind(kind)
            .bind((kind != "meter_usage").then_some(kind))
            .execute(&app.pool)
            .await
            .unwrap();
    }
}

pub(crate) async fn tell(executor: impl PgExecutor<'_>, change: &str, data: Value) {
    sqlx::query("SELECT polar_jobs.record_change($1, $2)")
        .bind(change)
        .bind(data)
        .execute(executor)
        .await
        .unwrap();
}

pub(crate) fn creation(organization: Uuid) -> Value {
    json!({ "id": organization, "name": "Acme", "slug": "acme",
            "owner": { "id": organization, "email": "owner@example.com", "name": "Ann" } })
}

pub(crate) fn usage(organization: Uuid, quantity: i64) -> Value {
    json!({ "organization_id": organization, "quantity": quantity })
}

pub(crate) fn cost(organization: Uuid, usage_id: &str) -> Value {
    json!({ "organization_id": organization, "source": "compass_assistant", "cost_usd": "0.5", "usage_id": usage_id })
}
