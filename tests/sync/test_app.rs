//! Everything on one machine: a database, a local Polar, the ingress, and a worker that drains.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::Utc;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jobs::app_webhook::AppWebhook;
use jobs::contract::{Fees, Settings, SupportDesk};
use polar::{ClientConfig, RateLimiter, Unlimited};
use polar_jobs::ingress::{Ingress, IngressSettings, Metrics};
use polar_jobs::queue::connect::{ConnectionBudget, Pooler, QueueDatabase};
use polar_jobs::worker::{QueueSlots, WorkerError, WorkerSettings, run};
use private_postgres::testing::{TestDatabase, database};
use serde_json::{Value, json};
use sha2::Sha256;
use simulator::Options;
use simulator::records::{MemberRecord, RequestRecord};
use sqlx::PgPool;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::local_polar::LocalPolar;

const TOKEN: &str = "an application's token";
/// Long enough for a loaded machine; a condition that comes earlier ends the wait earlier.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
pub(crate) const PLATFORM: Fees = Fees {
    basis_points: 500,
    fixed: 50,
    subscription_basis_points: 0,
};

pub(crate) struct TestApp {
    pub(crate) simulator: LocalPolar,
    pub(crate) pool: PgPool,
    /// The application that its workers call; none unless a test sets it.
    pub(crate) webhook: Option<AppWebhook>,
    /// What workers that start from now on have.
    pub(crate) support_desk: Mutex<Option<SupportDesk>>,
    pub(crate) url: String,
    ingress_url: String,
    server: JoinHandle<()>,
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A worker at work.
pub(crate) struct RunningWorker {
    stop: oneshot::Sender<()>,
    worker: JoinHandle<Result<(), WorkerError>>,
}

impl RunningWorker {
    pub(crate) async fn stop(self) {
        drop(self.stop);
        self.worker.await.unwrap().unwrap();
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
        // Fails only where another test of this process was first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let TestDatabase { url, pool } = database(polar_jobs::migrate::migrator).await;
        let simulator = LocalPolar::start(polar).await;
        let ingress = Ingress::bind(IngressSettings {
            bind: "127.0.0.1:0".parse().unwrap(),
            webhook_secrets: vec![simulator.webhook_secret().to_owned().into()],
            app_token: Some(TOKEN.into()),
            pool: pool.clone(),
            database: QueueDatabase::new(&url, Pooler::None).unwrap(),
            metrics: Metrics::none(),
        })
        .await
        .unwrap();
        let ingress_url = format!("http://{}", ingress.local_addr());
        simulator.set_webhook_url(Some(format!("{ingress_url}/integrations/polar/webhook")));
        let server = tokio::spawn(ingress.serve(std::future::pending()));
        Self {
            simulator,
            pool,
            webhook: None,
            support_desk: Mutex::default(),
            url,
            ingress_url,
            server,
        }
    }

    /// Where the database is, for a process of its own.
    #[allow(dead_code, reason = "only the API's tests start one")]
    pub(crate) fn database_url(&self) -> &str {
        &self.url
    }

    /// Where Polar delivers to from the start.
    pub(crate) fn webhook_url(&self) -> String {
        format!("{}/integrations/polar/webhook", self.ingress_url)
    }

    /// Another ingress beside the first one, with these secrets; its address.
    pub(crate) async fn ingress_with(&self, secrets: &[&str]) -> String {
        let ingress = Ingress::bind(IngressSettings {
            bind: "127.0.0.1:0".parse().unwrap(),
            webhook_secrets: secrets
                .iter()
                .map(|&secret| secret.to_owned().into())
                .collect(),
            app_token: None,
            pool: self.pool.clone(),
            database: QueueDatabase::new(&self.url, Pooler::None).unwrap(),
            metrics: Metrics::none(),
        });
        let ingress = ingress.await.unwrap();
        let address = ingress.local_addr().to_string();
        tokio::spawn(ingress.serve(std::future::pending()));
        address
    }

    /// The settings with which commands find the same database and Polar.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let organization = self.simulator.organization_id().to_string();
        vec![
            ("DATABASE_URL", self.url.clone()),
            ("POLAR_API_URL", self.simulator.url()),
            (
                "POLAR_ACCESS_TOKEN",
                self.simulator.access_token().to_owned(),
            ),
            ("POLAR_ORGANIZATION_ID", organization),
        ]
    }

    /// A client of our own, for what others do at Polar meanwhile.
    pub(crate) fn polar(&self) -> polar::Client {
        self.polar_through(Arc::new(Unlimited))
    }

    fn polar_through(&self, limiter: Arc<dyn RateLimiter>) -> polar::Client {
        let config = ClientConfig {
            base_url: self.simulator.url(),
            access_token: self.simulator.access_token().to_owned().into(),
            version: "2026-04".to_owned(),
            timeout: Duration::from_secs(5),
            user_agent: "tests".to_owned(),
        };
        polar::Client::new(config, limiter).unwrap()
    }

    /// Tells changes in this order.
    pub(crate) async fn tell(&self, changes: &[Value]) {
        let answer = self.try_to_tell(changes).await;
        assert_eq!(answer.status(), 202, "{}", answer.text().await.unwrap());
    }

    /// The same, whatever the answer.
    pub(crate) async fn try_to_tell(&self, changes: &[Value]) -> reqwest::Response {
        let client = reqwest::Client::builder()
            .tls_certs_only([])
            .build()
            .unwrap();
        let request = client
            .post(format!("{}/changes", self.ingress_url))
            .bearer_auth(TOKEN)
            .json(&json!({"changes": changes}));
        request.send().await.unwrap()
    }

    /// A delivery that Polar might send, signed as it signs.
    pub(crate) async fn deliver(&self, event_type: &str, data: &Value) {
        let body = json!({"type": event_type, "timestamp": Utc::now(), "data": data}).to_string();
        let (id, timestamp) = (
            Uuid::new_v4().to_string(),
            Utc::now().timestamp().to_string(),
        );
        let mac = Hmac::<Sha256>::new_from_slice(self.simulator.webhook_secret().as_bytes())
            .unwrap()
            .chain_update(format!("{id}.{timestamp}.{body}"));
        let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        let request = reqwest::Client::builder()
            .tls_certs_only([])
            .build()
            .unwrap()
            .post(format!("{}/integrations/polar/webhook", self.ingress_url))
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(body);
        assert_eq!(request.send().await.unwrap().status(), 202);
    }

    /// Something that somebody else does at Polar through its API.
    pub(crate) async fn at_polar(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let client = reqwest::Client::builder()
            .tls_certs_only([])
            .build()
            .unwrap();
        let url = format!("{}{path}", self.simulator.url());
        let mut request = client
            .request(method.parse().unwrap(), url)
            .header("polar-version", "2026-04")
            .bearer_auth(self.simulator.access_token());
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{method} {path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    fn worker(&self, billing: bool) -> WorkerSettings {
        WorkerSettings {
            database: QueueDatabase::new(&self.url, Pooler::None).unwrap(),
            connections: ConnectionBudget::of(10),
            pool: self.pool.clone(),
            registry: Arc::new(jobs::registry()),
            polar: billing.then(|| self.polar()),
            mail: None,
            settings: Arc::new(Settings {
                self_organization: Some(self.simulator.organization_id()),
                platform_fees: PLATFORM,
                early_fees: Fees {
                    basis_points: 400,
                    fixed: 40,
                    subscription_basis_points: 50,
                },
                app_webhook: self.webhook.clone(),
                support_desk: self.support_desk.lock().unwrap().clone(),
                webhook_events: polar_jobs::ingress::required_events(false),
            }),
            queues: ["default", "bulk", "support", "app"]
                .map(|queue| QueueSlots {
                    queue: queue.to_owned(),
                    slots: 10,
                })
                .into(),
            slots: 10,
            drain: true,
            drain_timeout: Duration::from_secs(5),
            mask: Arc::new(|text| text),
        }
    }

    /// Runs what is runnable now.
    pub(crate) async fn drain(&self) {
        run(self.worker(true), std::future::pending())
            .await
            .unwrap();
    }

    /// The same by a worker that has these settings.
    pub(crate) async fn drain_with(&self, change: impl FnOnce(&mut Settings)) {
        let mut worker = self.worker(true);
        let mut settings = Settings::clone(&worker.settings);
        change(&mut settings);
        worker.settings = Arc::new(settings);
        run(worker, std::future::pending()).await.unwrap();
    }

    /// The same with this rate limiter before Polar.
    pub(crate) async fn drain_through(&self, limiter: Arc<dyn RateLimiter>) {
        let settings = WorkerSettings {
            polar: Some(self.polar_through(limiter)),
            ..self.worker(true)
        };
        run(settings, std::future::pending()).await.unwrap();
    }

    /// A worker that goes on until it is stopped.
    pub(crate) fn work(&self) -> RunningWorker {
        self.work_through(Arc::new(Unlimited))
    }

    /// The same with this rate limiter before Polar.
    pub(crate) fn work_through(&self, limiter: Arc<dyn RateLimiter>) -> RunningWorker {
        let (stop, stopped) = oneshot::channel();
        let settings = WorkerSettings {
            drain: false,
            polar: Some(self.polar_through(limiter)),
            ..self.worker(true)
        };
        let worker = tokio::spawn(run(settings, async { drop(stopped.await) }));
        RunningWorker { stop, worker }
    }

    /// The same while billing is not configured.
    pub(crate) async fn drain_without_billing(&self) {
        run(self.worker(false), std::future::pending())
            .await
            .unwrap();
    }

    /// Runs jobs and lets deliveries come in until both are quiet.
    pub(crate) async fn work_until_idle(&self) {
        loop {
            self.drain().await;
            assert!(
                self.simulator.deliveries_finished(DEADLINE).await,
                "deliveries do not end"
            );
            if self
                .count("SELECT count(*) FROM polar_jobs.live_jobs WHERE run_at <= now() AND queue <> 'mail'")
                .await
                == 0
            {
                return;
            }
        }
    }

    /// Waits for what a running worker does.
    pub(crate) async fn until(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let begun = Instant::now();
        while !holds().await {
            assert!(
                begun.elapsed() < DEADLINE,
                "{what} did not happen; waiting: {:?}",
                self.notes().await
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
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

    /// Pretends that Polar's refusals of addresses lie long ago.
    pub(crate) async fn age_refusals(&self) {
        let aged =
            "UPDATE polar_jobs.people SET undeliverable_at = undeliverable_at - interval '1 hour'";
        sqlx::query(aged).execute(&self.pool).await.unwrap();
    }

    pub(crate) async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    /// Why jobs wait.
    pub(crate) async fn notes(&self) -> Vec<(String, Option<String>)> {
        sqlx::query_as(
            "SELECT kind, note FROM polar_jobs.jobs WHERE finished_at IS NULL ORDER BY id",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap()
    }

    /// Kind, state, outcome, and last error or note of every finished job of a kind, in order.
    pub(crate) async fn ends(&self, kind: &str) -> Vec<(String, String)> {
        sqlx::query_as(
            "SELECT CASE WHEN state = 'completed' THEN outcome ELSE state END,
                    coalesce(errors -> -1 ->> 'error', note, '')
               FROM polar_jobs.finished_jobs
              WHERE kind = $1 AND coalesce(note NOT LIKE 'merged into job %', true) ORDER BY id",
        )
        .bind(kind)
        .fetch_all(&self.pool)
        .await
        .unwrap()
    }

    /// How the last job of a kind ended.
    pub(crate) async fn end(&self, kind: &str) -> (String, String) {
        self.ends(kind)
            .await
            .pop()
            .unwrap_or_else(|| panic!("no {kind} finished"))
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
