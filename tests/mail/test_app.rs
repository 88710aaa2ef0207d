//! Everything on one machine: a database, a local Polar, the ingress, a mail server, and a worker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{TimeDelta, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use jobs::contract::{Fees, Settings};
use jobs::mail::{Links, Mailer, MailerConfig, Security, Sender, SmtpServer, Transport};
use polar::{ClientConfig, Unlimited};
use polar_jobs::ingress::{Ingress, IngressSettings, Metrics};
use polar_jobs::queue::connect::{ConnectionBudget, Pooler, QueueDatabase};
use polar_jobs::worker::{QueueSlots, WorkerError, WorkerSettings, run};
use private_postgres::testing::{TestDatabase, database};
use serde_json::{Value, json};
use sha2::Sha256;
use simulator::Options;
use simulator::records::{OrderRecord, RequestRecord};
use sqlx::PgPool;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::local_polar::LocalPolar;
use crate::mail_server::MailServer;

const TOKEN: &str = "an application's token";
/// Long enough for a loaded machine; a condition that comes earlier ends the wait earlier.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
const FEES: Fees = Fees {
    basis_points: 500,
    fixed: 50,
    subscription_basis_points: 0,
};

/// Who gets mail about an organization of these tests, sorted.
pub(crate) const CONTACTS: [&str; 2] = ["admin@example.com", "owner@example.com"];

pub(crate) struct TestApp {
    pub(crate) simulator: LocalPolar,
    pub(crate) mail_server: MailServer,
    pub(crate) pool: PgPool,
    pub(crate) url: String,
    mailer: Option<Mailer>,
    address: String,
    server: JoinHandle<()>,
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A worker that goes on until it is stopped.
pub(crate) struct Working {
    stop: oneshot::Sender<()>,
    worker: JoinHandle<Result<(), WorkerError>>,
}

impl Working {
    pub(crate) async fn stop(self) {
        drop(self.stop);
        self.worker.await.unwrap().unwrap();
    }
}

/// A row of `mails`.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub(crate) struct MailRow {
    pub(crate) template: String,
    pub(crate) recipient: String,
    pub(crate) state: String,
    pub(crate) attempts: i32,
    pub(crate) message_id: Option<String>,
    pub(crate) error: Option<String>,
}

/// Polar whose invoices are made at once, and whose orders are this old.
pub(crate) fn polar_of(age: TimeDelta) -> Options {
    Options {
        now: Some(Utc::now() - age),
        invoice_delay: Duration::ZERO,
        ..Options::default()
    }
}

/// Polar whose invoices are made at once.
pub(crate) fn polar() -> Options {
    Options {
        invoice_delay: Duration::ZERO,
        ..Options::default()
    }
}

/// Polar that makes an invoice only when its clock is moved.
pub(crate) fn polar_with_slow_invoices() -> Options {
    Options {
        invoice_delay: Duration::from_secs(3600),
        ..Options::default()
    }
}

impl TestApp {
    /// With mail to the mail server.
    pub(crate) async fn open(options: Options) -> Self {
        Self::open_with(options, Security::Opportunistic).await
    }

    pub(crate) async fn open_with(options: Options, security: Security) -> Self {
        let mut app = Self::without_mail(options).await;
        app.mailer = Some(Mailer::new(MailerConfig {
            transport: Transport::Smtp(SmtpServer {
                host: "127.0.0.1".to_owned(),
                port: app.mail_server.port(),
                security,
                credentials: Some(("me".to_owned(), "secret".into())),
            }),
            from: Sender::parse("Acme Billing <billing@example.com>").unwrap(),
            reply_to: Sender::parse("help@example.com"),
            links: Links {
                billing: Some("https://app.example.com/billing".to_owned()),
            },
        }));
        app
    }

    pub(crate) async fn without_mail(options: Options) -> Self {
        // Fails only where another test of this process was first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let TestDatabase { url, pool } = database(polar_jobs::migrate::migrator).await;
        let simulator = LocalPolar::start(options).await;
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
        let address = format!("http://{}", ingress.local_addr());
        let server = tokio::spawn(ingress.serve(std::future::pending()));
        let app = Self {
            simulator,
            mail_server: MailServer::start().await,
            pool,
            url,
            mailer: None,
            address,
            server,
        };
        app.deliver_from_now_on();
        app
    }

    pub(crate) fn deliver_from_now_on(&self) {
        let webhook = format!("{}/integrations/polar/webhook", self.address);
        self.simulator.set_webhook_url(Some(webhook));
    }

    /// An organization with somebody in every role, known at Polar.
    pub(crate) async fn organization(&self) -> String {
        let id = Uuid::new_v4().to_string();
        let added = |role: &str| {
            json!({"type": "member.added", "data": {"organization_id": id, "role": role,
                "user": {"id": Uuid::new_v4(), "email": format!("{role}@example.com"), "name": role}}})
        };
        self.tell(&[
            json!({"type": "organization.created", "data": {"id": id, "name": "Acme", "slug": "acme",
                "owner": {"id": Uuid::new_v4(), "email": "owner@example.com", "name": "Olga Owner"}}}),
            added("admin"),
            added("finance"),
            added("member"),
        ])
        .await;
        self.work_until_idle().await;
        id
    }

    /// The newest order of an organization.
    pub(crate) fn order(&self, organization: &str) -> OrderRecord {
        self.simulator.orders(organization).pop().unwrap()
    }

    pub(crate) async fn tell(&self, changes: &[Value]) {
        let request = client()
            .post(format!("{}/changes", self.address))
            .bearer_auth(TOKEN)
            .json(&json!({"changes": changes}));
        assert_eq!(request.send().await.unwrap().status(), 202);
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
        let request = client()
            .post(format!("{}/integrations/polar/webhook", self.address))
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(body);
        assert_eq!(request.send().await.unwrap().status(), 202);
    }

    /// A delivery about an order of an organization.
    pub(crate) async fn deliver_order(&self, event_type: &str, organization: &str, order: Uuid) {
        let customer = self.simulator.customer(organization).unwrap();
        let data = json!({"id": order, "customer_id": customer.id, "net_amount": 2000,
            "is_invoice_generated": true, "customer": {"id": customer.id, "external_id": organization}});
        self.deliver(event_type, &data).await;
    }

    /// Something that somebody else does at Polar through its API.
    pub(crate) async fn at_polar(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let url = format!("{}{path}", self.simulator.url());
        let mut request = client()
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

    fn worker(&self, drain: bool) -> WorkerSettings {
        let polar = ClientConfig {
            base_url: self.simulator.url(),
            access_token: self.simulator.access_token().to_owned().into(),
            version: "2026-04".to_owned(),
            timeout: Duration::from_secs(5),
            user_agent: "tests".to_owned(),
        };
        WorkerSettings {
            database: QueueDatabase::new(&self.url, Pooler::None).unwrap(),
            connections: ConnectionBudget::of(10),
            pool: self.pool.clone(),
            registry: Arc::new(jobs::registry()),
            polar: Some(polar::Client::new(polar, Arc::new(Unlimited)).unwrap()),
            mail: self.mailer.clone(),
            settings: Arc::new(Settings {
                self_organization: Some(self.simulator.organization_id()),
                platform_fees: FEES,
                early_fees: FEES,
                support_desk: None,
                app_webhook: None,
                webhook_events: polar_jobs::ingress::required_events(true),
            }),
            queues: [("default", 10), ("mail", 4), ("bulk", 2), ("support", 2)]
                .map(|(queue, slots)| QueueSlots {
                    queue: queue.to_owned(),
                    slots,
                })
                .into(),
            slots: 10,
            drain,
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

    /// A worker that goes on until it is stopped.
    pub(crate) fn work(&self) -> Working {
        let (stop, stopped) = oneshot::channel();
        let settings = self.worker(false);
        let worker = tokio::spawn(run(settings, async { drop(stopped.await) }));
        Working { stop, worker }
    }

    /// Runs what is runnable and lets deliveries come in until both are quiet.
    pub(crate) async fn work_until_idle(&self) {
        loop {
            self.drain().await;
            let settled = self.simulator.deliveries_finished(DEADLINE).await;
            assert!(settled, "deliveries do not come to an end");
            let runnable = "SELECT count(*) FROM polar_jobs.live_jobs WHERE run_at <= now()";
            if self.count(runnable).await == 0 {
                return;
            }
        }
    }

    /// Lets every waiting job run now, as if its time had come; once.
    pub(crate) async fn look_again(&self) {
        let hurried = "UPDATE polar_jobs.live_jobs SET run_at = now() WHERE worker IS NULL";
        sqlx::query(hurried).execute(&self.pool).await.unwrap();
        self.work_until_idle().await;
    }

    /// The same until nothing waits.
    pub(crate) async fn finish(&self) {
        for _round in 0..30 {
            self.work_until_idle().await;
            if self
                .count("SELECT count(*) FROM polar_jobs.live_jobs")
                .await
                == 0
            {
                return;
            }
            self.look_again().await;
        }
        panic!("jobs still wait: {:?}", self.notes().await);
    }

    pub(crate) async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    /// All mails, by recipient, then in the order in which they were asked for.
    pub(crate) async fn mails(&self) -> Vec<MailRow> {
        sqlx::query_as(
            "SELECT template, recipient, state, attempts, message_id, error FROM polar_jobs.mails
              ORDER BY recipient, created_at, template",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap()
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

    /// How finished jobs of a kind ended, in order.
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

    /// Waits for what a worker does.
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

    /// Requests of a method about orders, or members.
    pub(crate) fn requests(&self, method: &str, path: &str) -> Vec<RequestRecord> {
        let requests = self.simulator.requests().into_iter();
        requests
            .filter(|request| request.method == method && request.path.contains(path))
            .collect()
    }
}

fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .tls_certs_only([])
        .build()
        .unwrap()
}
