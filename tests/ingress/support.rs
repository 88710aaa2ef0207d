//! A running ingress, and a client that can send anything, right or wrong, byte for byte.

#[path = "../signature/mod.rs"]
mod signature;

use std::net::SocketAddr;

use chrono::Utc;
use polar_jobs::ingress::{Ingress, IngressSettings, Limits, MetricsPage};
use polar_jobs::queue::connect::{Pooler, QueueDatabase};
use private_postgres::testing::{TestDatabase, database};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::wait::DEADLINE;
pub(crate) use signature::sign;

pub(crate) const SECRET: &str = "whsec_7Qm2xVbT4kRZ0aLpYc9uJ3nWdE6sHgXf1OiKvBtMyNr";
pub(crate) const TOKEN: &str = "an application's token";
pub(crate) const WEBHOOK: &str = "/integrations/polar/webhook";

/// An ingress that runs until this is dropped.
pub(crate) struct TestIngress {
    pub(crate) address: SocketAddr,
    pub(crate) pool: PgPool,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<()>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl TestIngress {
    pub(crate) async fn start() -> Self {
        Self::with(&[SECRET], Some(TOKEN)).await
    }

    pub(crate) async fn with(secrets: &[&str], token: Option<&str>) -> Self {
        let TestDatabase { url, pool } = database(polar_jobs::migrate::migrator).await;
        Self::on(url, pool, secrets, token).await
    }

    pub(crate) async fn on(
        url: String,
        pool: PgPool,
        secrets: &[&str],
        token: Option<&str>,
    ) -> Self {
        Self::open(settings(&url, pool, secrets, token), Limits::default()).await
    }

    /// With limits and a page of metrics of its own.
    #[allow(dead_code, reason = "not every test binary has limits of its own")]
    pub(crate) async fn limited(limits: Limits, page: String) -> Self {
        let TestDatabase { url, pool } = database(polar_jobs::migrate::migrator).await;
        let mut settings = settings(&url, pool, &[SECRET], Some(TOKEN));
        settings.metrics = MetricsPage::new(move || page.clone());
        Self::open(settings, limits).await
    }

    /// As it runs behind a pooler: with no settings in its sessions.
    #[allow(dead_code, reason = "not every test binary has a pooler")]
    pub(crate) async fn behind_a_pooler() -> Self {
        let TestDatabase { url, pool } = database(polar_jobs::migrate::migrator).await;
        let mut settings = settings(&url, pool, &[SECRET], Some(TOKEN));
        settings.database = QueueDatabase::new(&url, Pooler::Transaction).unwrap();
        Self::open(settings, Limits::default()).await
    }

    async fn open(settings: IngressSettings, limits: Limits) -> Self {
        let pool = settings.pool.clone();
        let ingress = Ingress::bind_with(settings, limits).await.unwrap();
        let (stop, stopped) = oneshot::channel();
        let address = ingress.local_addr();
        let server = tokio::spawn(ingress.serve(async {
            let _dropped_means_stop_too = stopped.await;
        }));
        Self {
            address,
            pool,
            stop: Some(stop),
            server,
        }
    }

    /// Stops it as SIGTERM would; returns when everything in flight is answered.
    pub(crate) async fn close(mut self) {
        let _ = self.stop.take().unwrap().send(());
        self.server.await.unwrap();
    }

    pub(crate) async fn deliver(&self, delivery: &Delivery) -> Answer {
        delivery.try_send(self.address).await.unwrap()
    }

    pub(crate) async fn change(&self, body: &Value) -> Answer {
        self.changes(body.to_string().as_bytes()).await
    }

    pub(crate) async fn changes(&self, body: &[u8]) -> Answer {
        let bearer = format!("Bearer {TOKEN}").into_bytes();
        self.send("POST", "/changes", &[("authorization", bearer)], body)
            .await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"").await
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, Vec<u8>)],
        body: &[u8],
    ) -> Answer {
        let answer = try_send(self.address, method, path, headers, body);
        answer.await.unwrap()
    }

    pub(crate) async fn events(&self) -> i64 {
        count(
            &self.pool,
            "SELECT count(*) FROM polar_jobs.external_events",
        )
        .await
    }

    pub(crate) async fn jobs(&self) -> i64 {
        count(&self.pool, "SELECT count(*) FROM polar_jobs.jobs").await
    }
}

fn settings(url: &str, pool: PgPool, secrets: &[&str], token: Option<&str>) -> IngressSettings {
    IngressSettings {
        bind: "127.0.0.1:0".parse().unwrap(),
        webhook_secrets: secrets.iter().map(|secret| (*secret).into()).collect(),
        app_token: token.map(Into::into),
        pool,
        database: QueueDatabase::new(url, Pooler::None).unwrap(),
        metrics: MetricsPage::new(|| "polar_jobs_up 1\n".to_owned()),
    }
}

pub(crate) async fn count(pool: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

#[allow(unused_imports, reason = "not every test binary waits with it")]
pub(crate) use crate::wait::eventually as until;

/// A delivery as Polar would send it, every part of which can be spoilt.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) id: String,
    pub(crate) timestamp: String,
    pub(crate) body: Vec<u8>,
    pub(crate) signature: String,
}

impl Delivery {
    pub(crate) fn new(body: impl Into<Vec<u8>>) -> Self {
        Self::signed(
            SECRET,
            &Uuid::new_v4().to_string(),
            Utc::now().timestamp(),
            body,
        )
    }

    pub(crate) fn signed(secret: &str, id: &str, timestamp: i64, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let timestamp = timestamp.to_string();
        let signature = sign(secret.as_bytes(), id, &timestamp, &body);
        Self {
            id: id.to_owned(),
            timestamp,
            body,
            signature,
        }
    }

    /// A grant for a customer of its own: a type that starts a job.
    pub(crate) fn grant() -> Self {
        Self::grant_of(Uuid::new_v4(), Uuid::new_v4())
    }

    pub(crate) fn grant_of(customer: Uuid, organization: Uuid) -> Self {
        Self::new(grant_body("benefit_grant.created", customer, organization))
    }

    pub(crate) fn headers(&self) -> Vec<(&'static str, Vec<u8>)> {
        vec![
            ("webhook-id", self.id.clone().into_bytes()),
            ("webhook-timestamp", self.timestamp.clone().into_bytes()),
            ("webhook-signature", self.signature.clone().into_bytes()),
        ]
    }

    /// Sends it there, on a connection of its own.
    pub(crate) async fn try_send(&self, address: SocketAddr) -> std::io::Result<Answer> {
        try_send(address, "POST", WEBHOOK, &self.headers(), &self.body).await
    }

    /// The head of its request as it goes over the wire, with this header more: how its body comes.
    pub(crate) fn head(&self, framing: &str) -> String {
        let mut head = format!("POST {WEBHOOK} HTTP/1.1\r\nhost: test\r\n{framing}\r\n");
        for (name, value) in self.headers() {
            let value = String::from_utf8(value).unwrap();
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head + "\r\n"
    }
}

pub(crate) fn grant_body(event_type: &str, customer: Uuid, organization: Uuid) -> String {
    json!({"type": event_type, "timestamp": "2026-08-14T09:12:09.640112Z", "data": {
        "id": Uuid::new_v4(), "customer_id": customer, "benefit_id": Uuid::new_v4(), "is_granted": true,
        "customer": {"id": customer, "external_id": organization, "metadata": {}},
        "benefit": {"metadata": {"type": "transaction_fee"}}}})
    .to_string()
}

/// One request on a connection of its own; an error where the server hung up without an answer.
pub(crate) async fn try_send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, Vec<u8>)],
    body: &[u8],
) -> std::io::Result<Answer> {
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    )
    .into_bytes();
    for (name, value) in headers {
        request.extend_from_slice(name.as_bytes());
        request.extend_from_slice(b": ");
        request.extend_from_slice(value);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    request.extend_from_slice(body);
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(&request).await?;
        read_answer(&mut stream).await
    };
    tokio::time::timeout(DEADLINE, asked)
        .await
        .unwrap_or_else(|_| panic!("{method} {path} was not answered within {DEADLINE:?}"))
}

/// Everything until the server closes the connection.
pub(crate) async fn read_answer(stream: &mut TcpStream) -> std::io::Result<Answer> {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let text = String::from_utf8(answer).unwrap();
    let (head, body) = text
        .split_once("\r\n\r\n")
        .ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let status = head[9..12].parse().unwrap();
    Ok(Answer {
        status,
        head: head.to_lowercase(),
        body: body.to_owned(),
    })
}
