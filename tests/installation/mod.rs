//! An installation on one machine: a database, a local Polar and the ingress between them, and workers that a test
//! starts. Who else takes part, a mail server or the application, each folder of tests adds.

#[path = "../signature/mod.rs"]
mod signature;

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use jobs::contract::{Fees, Settings};
use polar::{RateLimiter, Unlimited};
use polar_jobs::ingress::{Ingress, IngressSettings, MetricsPage};
use polar_jobs::queue::connect::{ConnectionBudget, Pooler, QueueDatabase};
use polar_jobs::worker::{QueueSlots, WorkerError, WorkerSettings, run};
use private_postgres::testing::{TestDatabase, database};
use serde_json::{Value, json};
use simulator::Options;
use simulator::records::RequestRecord;
use sqlx::PgPool;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::local_polar::{LocalPolar, client_config};
pub(crate) use crate::wait::DEADLINE;
use crate::wait::comes_true_within;
use signature::sign;

const TOKEN: &str = "an application's token";
pub(crate) const PLATFORM: Fees = Fees {
    basis_points: 500,
    fixed: 50,
    subscription_basis_points: 0,
};

pub(crate) struct Installation {
    pub(crate) simulator: LocalPolar,
    pub(crate) pool: PgPool,
    pub(crate) url: String,
    ingress_url: String,
    server: JoinHandle<()>,
}

impl Drop for Installation {
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
    /// One that goes on until it is stopped.
    pub(crate) fn start(settings: WorkerSettings) -> Self {
        let settings = WorkerSettings {
            drain: false,
            ..settings
        };
        let (stop, stopped) = oneshot::channel();
        let worker = tokio::spawn(run(settings, async { drop(stopped.await) }));
        Self { stop, worker }
    }

    pub(crate) async fn stop(self) {
        drop(self.stop);
        self.worker.await.unwrap().unwrap();
    }
}

/// Lets a worker run what is runnable now.
pub(crate) async fn drain(settings: WorkerSettings) {
    run(settings, std::future::pending()).await.unwrap();
}

impl Installation {
    pub(crate) async fn open(polar: Options) -> Self {
        // Fails only where another test of this process was first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let TestDatabase { url, pool } = database(polar_jobs::migrate::migrator).await;
        let simulator = LocalPolar::start(polar).await;
        let secret = simulator.webhook_secret().to_owned();
        let ingress = ingress(&url, &pool, &[&secret], Some(TOKEN)).await;
        let ingress_url = format!("http://{}", ingress.local_addr());
        let server = tokio::spawn(ingress.serve(std::future::pending()));
        let installation = Self {
            simulator,
            pool,
            url,
            ingress_url,
            server,
        };
        installation.deliver_from_now_on();
        installation
    }

    /// Where Polar delivers to from the start.
    pub(crate) fn webhook_url(&self) -> String {
        format!("{}/integrations/polar/webhook", self.ingress_url)
    }

    /// Polar delivers again after a test kept it from that.
    pub(crate) fn deliver_from_now_on(&self) {
        self.simulator.set_webhook_url(Some(self.webhook_url()));
    }

    /// Another ingress beside the first one, with these secrets; its address.
    pub(crate) async fn ingress_with(&self, secrets: &[&str]) -> String {
        let ingress = ingress(&self.url, &self.pool, secrets, None).await;
        let address = ingress.local_addr().to_string();
        tokio::spawn(ingress.serve(std::future::pending()));
        address
    }

    /// The settings with which processes find the same database and Polar.
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

    pub(crate) fn polar_through(&self, limiter: Arc<dyn RateLimiter>) -> polar::Client {
        let (url, token) = (self.simulator.url(), self.simulator.access_token());
        let config = client_config(url, token, Duration::from_secs(5));
        polar::Client::new(config, limiter).unwrap()
    }

    /// Tells changes in this order.
    pub(crate) async fn tell(&self, changes: &[Value]) {
        let answer = self.try_to_tell(changes).await;
        assert_eq!(answer.status(), 202, "{}", answer.text().await.unwrap());
    }

    /// The same, whatever the answer.
    #[allow(dead_code, reason = "not every program of tests has a failing ingress")]
    pub(crate) async fn try_to_tell(&self, changes: &[Value]) -> reqwest::Response {
        let request = client()
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
        let key = self.simulator.webhook_secret().as_bytes();
        let signature = sign(key, &id, &timestamp, body.as_bytes());
        let request = client()
            .post(self.webhook_url())
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(body);
        assert_eq!(request.send().await.unwrap().status(), 202);
    }

    /// Something that somebody else does at Polar through its API.
    pub(crate) async fn at_polar(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let url = format!("{}{path}", self.simulator.url());
        let mut request = client()
            .request(method.parse().unwrap(), url)
            .header("polar-version", polar::API_VERSION)
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

    /// A worker that runs what is runnable, with so many slots for each queue.
    pub(crate) fn worker(&self, queues: &[(&str, usize)]) -> WorkerSettings {
        let slots = |&(queue, slots): &(&str, usize)| QueueSlots {
            queue: queue.to_owned(),
            slots,
        };
        WorkerSettings {
            database: QueueDatabase::new(&self.url, Pooler::None).unwrap(),
            connections: ConnectionBudget::of(10),
            pool: self.pool.clone(),
            registry: Arc::new(jobs::registry()),
            polar: Some(self.polar()),
            mail: None,
            settings: Arc::new(Settings {
                self_organization: Some(self.simulator.organization_id()),
                platform_fees: PLATFORM,
                early_fees: Fees {
                    basis_points: 400,
                    fixed: 40,
                    subscription_basis_points: 50,
                },
                webhook_events: polar_jobs::ingress::required_events(false),
                ..Settings::default()
            }),
            queues: queues.iter().map(slots).collect(),
            slots: 10,
            drain: true,
            drain_timeout: Duration::from_secs(5),
            mask: Arc::new(|text| text),
        }
    }

    /// Waits until Polar delivers nothing more.
    pub(crate) async fn deliveries_end(&self) {
        let ended = self.simulator.deliveries_finished(DEADLINE).await;
        assert!(ended, "deliveries do not come to an end");
    }

    /// Waits for what a running worker does.
    pub(crate) async fn until(&self, what: &str, holds: impl AsyncFnMut() -> bool) {
        assert!(
            comes_true_within(DEADLINE, holds).await,
            "{what} did not happen; waiting: {:?}",
            self.notes().await
        );
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

    /// Outcome or state, and last error or note, of every finished job of a kind, in order.
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

    /// The failures of all jobs of a kind, as they are kept.
    pub(crate) async fn failures(&self, kind: &str) -> Vec<Value> {
        sqlx::query_scalar(
            "SELECT f FROM polar_jobs.jobs, jsonb_array_elements(errors) f WHERE kind = $1",
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

    /// Requests of a method about orders, or members.
    pub(crate) fn requests(&self, method: &str, path: &str) -> Vec<RequestRecord> {
        let requests = self.simulator.requests().into_iter();
        requests
            .filter(|request| request.method == method && request.path.contains(path))
            .collect()
    }
}

async fn ingress(url: &str, pool: &PgPool, secrets: &[&str], app_token: Option<&str>) -> Ingress {
    let settings = IngressSettings {
        bind: "127.0.0.1:0".parse().unwrap(),
        webhook_secrets: secrets.iter().map(|&secret| secret.into()).collect(),
        app_token: app_token.map(Into::into),
        pool: pool.clone(),
        database: QueueDatabase::new(url, Pooler::None).unwrap(),
        metrics: MetricsPage::none(),
    };
    Ingress::bind(settings).await.unwrap()
}

fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .tls_certs_only([])
        .build()
        .unwrap()
}
