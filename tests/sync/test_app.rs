//! The application and a worker on an [`Installation`]: what both do, and how to wait for it.

#[path = "../installation/mod.rs"]
#[allow(dead_code, reason = "the tests of mail use the rest")]
mod installation;

use std::ops::Deref;
use std::sync::{Arc, Mutex};

use installation::{Installation, drain};
use jobs::NewJob;
use jobs::app_webhook::AppWebhook;
use jobs::contract::{Settings, SupportDesk};
use polar::RateLimiter;
use polar_jobs::queue::enqueue;
use polar_jobs::worker::WorkerSettings;
use serde_json::{Value, json};
use simulator::Options;
use simulator::records::{MemberRecord, RequestRecord};
use uuid::Uuid;

#[allow(unused_imports, reason = "not every folder of tests needs both")]
pub(crate) use installation::{DEADLINE, PLATFORM, RunningWorker};

const QUEUES: [(&str, usize); 4] = [("default", 10), ("bulk", 10), ("support", 10), ("app", 10)];

pub(crate) struct TestApp {
    installation: Installation,
    /// The application that its workers call; none unless a test sets it.
    pub(crate) webhook: Option<AppWebhook>,
    /// What workers that start from now on have.
    pub(crate) support_desk: Mutex<Option<SupportDesk>>,
}

impl Deref for TestApp {
    type Target = Installation;

    fn deref(&self) -> &Installation {
        &self.installation
    }
}

/// An organization of a test, with its owner.
#[derive(Clone, Debug)]
pub(crate) struct Tenant {
    pub(crate) id: String,
    pub(crate) owner: String,
}

impl Tenant {
    pub(crate) fn new() -> Self {
        Self {
            id: Uuid::new_v4().to_string(),
            owner: Uuid::new_v4().to_string(),
        }
    }

    pub(crate) fn created(&self) -> Value {
        json!({"type": "organization.created", "data": {"id": self.id, "name": "Acme", "slug": "acme",
            "owner": {"id": self.owner, "email": "owner@example.com", "name": "Olga Owner"}}})
    }

    pub(crate) fn deleted(&self) -> Value {
        json!({"type": "organization.deleted", "data": {"id": self.id}})
    }

    pub(crate) fn added(&self, user: &str, email: &str, role: &str) -> Value {
        json!({"type": "member.added", "data": {"organization_id": self.id, "role": role,
            "user": {"id": user, "email": email, "name": "Ada Added"}}})
    }

    pub(crate) fn removed(&self, user: &str) -> Value {
        json!({"type": "member.removed", "data": {"organization_id": self.id, "user_id": user}})
    }

    pub(crate) fn role(&self, user: &str, role: &str) -> Value {
        json!({"type": "member.updated", "data": {"organization_id": self.id, "user_id": user, "role": role}})
    }

    pub(crate) fn transferred(&self, user: &str) -> Value {
        json!({"type": "ownership.transferred", "data": {"organization_id": self.id, "user_id": user}})
    }
}

pub(crate) fn user() -> String {
    Uuid::new_v4().to_string()
}

impl TestApp {
    pub(crate) async fn open() -> Self {
        Self::open_with(Options::default()).await
    }

    /// The same with a local Polar of one's own choice.
    pub(crate) async fn open_with(polar: Options) -> Self {
        Self {
            installation: Installation::open(polar).await,
            webhook: None,
            support_desk: Mutex::default(),
        }
    }

    fn worker(&self) -> WorkerSettings {
        let mut worker = self.installation.worker(&QUEUES);
        worker.settings = Arc::new(Settings {
            app_webhook: self.webhook.clone(),
            support_desk: self.support_desk.lock().unwrap().clone(),
            ..Settings::clone(&worker.settings)
        });
        worker
    }

    /// Runs what is runnable now.
    pub(crate) async fn drain(&self) {
        drain(self.worker()).await;
    }

    fn worker_with(&self, change: impl FnOnce(&mut Settings)) -> WorkerSettings {
        let mut worker = self.worker();
        let mut settings = Settings::clone(&worker.settings);
        change(&mut settings);
        worker.settings = Arc::new(settings);
        worker
    }

    /// The same by a worker that has these settings.
    pub(crate) async fn drain_with(&self, change: impl FnOnce(&mut Settings)) {
        drain(self.worker_with(change)).await;
    }

    /// One that goes on until it is stopped.
    pub(crate) fn work_with(&self, change: impl FnOnce(&mut Settings)) -> RunningWorker {
        RunningWorker::start(self.worker_with(change))
    }

    /// The same with this rate limiter before Polar.
    pub(crate) async fn drain_through(&self, limiter: Arc<dyn RateLimiter>) {
        let settings = WorkerSettings {
            polar: Some(self.polar_through(limiter)),
            ..self.worker()
        };
        drain(settings).await;
    }

    /// The same while billing is not configured.
    pub(crate) async fn drain_without_billing(&self) {
        let settings = WorkerSettings {
            polar: None,
            ..self.worker()
        };
        drain(settings).await;
    }

    /// A worker that goes on until it is stopped.
    pub(crate) fn work(&self) -> RunningWorker {
        RunningWorker::start(self.worker())
    }

    /// The same with this rate limiter before Polar.
    pub(crate) fn work_through(&self, limiter: Arc<dyn RateLimiter>) -> RunningWorker {
        RunningWorker::start(WorkerSettings {
            polar: Some(self.polar_through(limiter)),
            ..self.worker()
        })
    }

    /// Runs jobs and lets deliveries come in until both are quiet.
    pub(crate) async fn work_until_idle(&self) {
        let runnable =
            "SELECT count(*) FROM polar_jobs.live_jobs WHERE run_at <= now() AND queue <> 'mail'";
        loop {
            self.drain().await;
            self.deliveries_end().await;
            if self.count(runnable).await == 0 {
                return;
            }
        }
    }

    pub(crate) async fn enqueue(&self, job: NewJob) {
        let mut connection = self.pool.acquire().await.unwrap();
        enqueue::insert(&mut connection, &job).await.unwrap();
    }

    /// Lets every waiting job run now, mail apart, which has tests of its own.
    pub(crate) async fn hurry(&self) -> u64 {
        let hurried = sqlx::query(
            "UPDATE polar_jobs.live_jobs SET run_at = now() WHERE worker IS NULL AND queue <> 'mail'",
        );
        hurried.execute(&self.pool).await.unwrap().rows_affected()
    }

    /// Lets every waiting job run now, as if its time had come, until nothing waits.
    pub(crate) async fn resolve_waits(&self) {
        for _round in 0..60 {
            self.work_until_idle().await;
            if self.hurry().await == 0 {
                return;
            }
        }
        panic!("jobs still wait: {:?}", self.notes().await);
    }

    /// Moves the changes that are not applied yet to this long from now: what is told next is applied before.
    pub(crate) async fn postpone_changes(&self, by: &str) {
        let postponed = sqlx::query(
            "UPDATE polar_jobs.jobs SET run_at = now() + $1::interval WHERE kind = 'apply_change' AND state = 'available'",
        );
        postponed.bind(by).execute(&self.pool).await.unwrap();
    }

    /// Discards the changes that are not applied yet, as if they had failed for too long. Returns their jobs.
    pub(crate) async fn give_up_changes(&self) -> Vec<i64> {
        let given_up = sqlx::query_scalar(
            "SELECT j.id FROM polar_jobs.live_jobs j, polar_jobs.end_jobs(ARRAY[j.id], 'discarded', 'failed', 'a test', NULL)
              WHERE j.kind = 'apply_change'",
        );
        let given_up: Vec<i64> = given_up.fetch_all(&self.pool).await.unwrap();
        assert!(!given_up.is_empty());
        given_up
    }

    /// As an operator retries discarded jobs.
    pub(crate) async fn retry(&self, jobs: &[i64]) {
        sqlx::query("SELECT polar_jobs.retry_finished($1, 'discarded')")
            .bind(jobs)
            .execute(&self.pool)
            .await
            .unwrap();
    }

    /// Pretends that Polar's refusals of addresses lie long ago.
    pub(crate) async fn age_refusals(&self) {
        let aged =
            "UPDATE polar_jobs.people SET undeliverable_at = undeliverable_at - interval '1 hour'";
        sqlx::query(aged).execute(&self.pool).await.unwrap();
    }

    pub(crate) fn member(&self, tenant: &Tenant, user: &str) -> Option<MemberRecord> {
        let members = self.simulator.members(&tenant.id);
        members
            .into_iter()
            .find(|member| member.external_id.as_deref() == Some(user))
    }

    pub(crate) fn role_at_polar(&self, tenant: &Tenant, user: &str) -> Option<String> {
        self.member(tenant, user).map(|member| member.role)
    }

    /// Requests that change something at Polar.
    pub(crate) fn writes(&self) -> Vec<RequestRecord> {
        self.simulator
            .requests()
            .into_iter()
            .filter(|request| request.method != "GET")
            .collect()
    }
}
