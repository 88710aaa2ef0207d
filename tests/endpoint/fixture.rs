//! What the tests of the endpoint have in common.

use jobs::{NewJob, WatchEndpoint};
use serde_json::Value;

use crate::support::{Said, run_beside};
use crate::test_app::TestApp;

/// What a look at the endpoint left behind.
#[derive(Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Noted {
    pub(crate) enabled: bool,
    pub(crate) missing_events: Vec<String>,
    pub(crate) gap: bool,
}

impl TestApp {
    pub(crate) async fn command(&self, arguments: &[&str]) -> Said {
        run_beside(&self.environment(), arguments).await
    }

    /// Ten minutes pass.
    pub(crate) async fn watch(&self) {
        let mut connection = self.pool.acquire().await.unwrap();
        let job = NewJob::of(&WatchEndpoint {});
        polar_jobs::queue::enqueue::insert(&mut connection, &job)
            .await
            .unwrap();
        drop(connection);
        self.drain().await;
    }

    pub(crate) async fn noted(&self) -> Noted {
        let noted = "SELECT enabled, missing_events, gap_since IS NOT NULL AS gap FROM polar_jobs.webhook_endpoint";
        sqlx::query_as(noted).fetch_one(&self.pool).await.unwrap()
    }

    /// The endpoints at Polar, oldest first.
    pub(crate) async fn endpoints(&self) -> Vec<Value> {
        let list = self
            .at_polar("GET", "/v1/webhooks/endpoints?limit=100", None)
            .await;
        let mut endpoints = list["items"].as_array().unwrap().clone();
        endpoints.reverse();
        endpoints
    }

    pub(crate) async fn plan(&self) -> String {
        sqlx::query_scalar("SELECT plan FROM polar_jobs.entitlements")
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    /// How often Polar was asked to send an event again.
    pub(crate) fn redeliveries(&self) -> usize {
        let requests = self.simulator.requests().into_iter();
        requests
            .filter(|one| one.path.ends_with("/redeliver"))
            .count()
    }
}
