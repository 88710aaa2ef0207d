//! The API on a port of its own, beside the ingress of a test, with a local Polar behind both.

use std::net::SocketAddr;
use std::ops::Deref;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jobs::contract::Fees;
use polar::{ProductId, RateLimiter, Unlimited};
use polar_jobs::api::{self, ApiSettings};
use polar_jobs::config::AppSettings;
use polar_jobs::ingress::serve_operations;
use polar_jobs::queue::connect::Pooler;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use sha2::Sha256;
use simulator::Product;
use sqlx::PgPool;
use tempfile::NamedTempFile;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::free_port::free_port;
use crate::local_polar::client_config;
use crate::test_app::{DEADLINE, PLATFORM, Tenant, TestApp, user};

pub(crate) const APP_TOKEN: &str = "the token of the application's server";
pub(crate) const SESSION_SECRET: &str = "a-key-of-the-application-of-32-bytes-or-more";
pub(crate) const EARLY: Fees = Fees {
    basis_points: 400,
    fixed: 40,
    subscription_basis_points: 50,
};
/// Longer than the simulator takes on a busy machine, and short enough to wait for in a test.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// Who calls.
#[derive(Clone, Debug)]
pub(crate) enum As {
    Nobody,
    Server,
    ServerFor(String),
    Browser(String),
}

pub(crate) struct ApiApp {
    app: TestApp,
    pub(crate) address: SocketAddr,
    server: JoinHandle<()>,
    http: reqwest::Client,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn error(&self) -> &str {
        self.body["error"].as_str().unwrap_or_default()
    }

    pub(crate) fn retry_after(&self) -> Option<u64> {
        self.headers.get("retry-after")?.to_str().ok()?.parse().ok()
    }
}

/// An organization whose people are known at Polar.
pub(crate) struct Company {
    pub(crate) tenant: Tenant,
    pub(crate) admin: String,
    pub(crate) finance: String,
    pub(crate) member: String,
}

impl Company {
    pub(crate) fn id(&self) -> &str {
        &self.tenant.id
    }

    pub(crate) fn owner(&self) -> As {
        As::Browser(self.tenant.owner.clone())
    }

    /// A route of the organization.
    pub(crate) fn at(&self, route: &str) -> String {
        format!("/v1/organizations/{}{route}", self.tenant.id)
    }
}

impl Deref for ApiApp {
    type Target = TestApp;

    fn deref(&self) -> &TestApp {
        &self.app
    }
}

impl Drop for ApiApp {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl ApiApp {
    pub(crate) async fn open() -> Self {
        Self::with(|_| ()).await
    }

    /// With other settings.
    pub(crate) async fn with(change: impl FnOnce(&mut ApiSettings)) -> Self {
        let app = TestApp::open().await;
        let mut settings = settings(&app);
        change(&mut settings);
        let (address, server) = serve(settings).await;
        Self {
            app,
            address,
            server,
            http: http(),
        }
    }

    pub(crate) async fn ask(&self, who: &As, method: &str, path: &str) -> Answer {
        self.send(who, method, path, None, &[]).await
    }

    pub(crate) async fn tell_api(
        &self,
        who: &As,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Answer {
        self.send(who, method, path, Some(body), &[]).await
    }

    pub(crate) async fn send(
        &self,
        who: &As,
        method: &str,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Answer {
        send(&self.http, self.address, who, method, path, body, headers).await
    }

    /// A company whose customer and members are at Polar.
    pub(crate) async fn company(&self) -> Company {
        let company = self.unsynced_company().await;
        self.drain().await;
        company
    }

    /// The same before any job has run but the one that writes it into our tables.
    pub(crate) async fn unsynced_company(&self) -> Company {
        let company = Company {
            tenant: Tenant::new(),
            admin: user(),
            finance: user(),
            member: user(),
        };
        let (id, tenant) = (company.id(), &company.tenant);
        let slug = format!("acme-{}", &id[..8]);
        let owner = json!({"id": tenant.owner, "email": mail(&tenant.owner), "name": "Olga Owner"});
        let added = |user: &str, role: &str| tenant.added(user, &mail(user), role);
        self.tell(&[
            json!({"type": "organization.created", "data": {"id": id, "name": "Acme", "slug": slug, "owner": owner}}),
            added(&company.admin, "admin"),
            added(&company.finance, "finance"),
            added(&company.member, "member"),
        ])
        .await;
        company
    }

    /// A company with a paid plan, and the card that it was paid with.
    pub(crate) async fn customer_of(&self, product: Product) -> Company {
        let company = self.company().await;
        self.simulator
            .purchase(company.id(), product)
            .await
            .unwrap();
        company
    }

    pub(crate) fn product(&self, product: Product) -> Uuid {
        self.simulator.product_id(product).unwrap()
    }

    /// The plan that our tables say.
    pub(crate) async fn plan_in_tables(&self, company: &Company) -> (String, bool) {
        sqlx::query_as(
            "SELECT e.plan, coalesce(s.cancel_at_period_end, false) FROM polar_jobs.entitlements e
               LEFT JOIN polar_jobs.subscriptions s USING (organization_id) WHERE organization_id = $1::uuid",
        )
        .bind(company.id())
        .fetch_one(&self.pool)
        .await
        .unwrap()
    }

    /// Requests that change a subscription at Polar.
    pub(crate) fn subscription_changes(&self) -> Vec<Value> {
        let writes = self.writes().into_iter();
        writes
            .filter(|request| {
                request.method == "PATCH" && request.path.contains("/v1/subscriptions/")
            })
            .map(|request| request.body)
            .collect()
    }
}

fn settings(app: &TestApp) -> ApiSettings {
    ApiSettings {
        pool: app.pool.clone(),
        pooler: Pooler::None,
        polar: Some(client(app, Arc::new(Unlimited))),
        app_token: Some(APP_TOKEN.into()),
        app: AppSettings {
            url: Some("https://app.example.com".parse().unwrap()),
            session_secret: Some(SESSION_SECRET.into()),
            origins: vec!["https://app.example.com".to_owned()],
            trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()],
        },
        self_organization: Some(app.simulator.organization_id()),
        scale_product: app.simulator.product_id(Product::Scale).map(ProductId),
        platform_fees: PLATFORM,
        early_fees: EARLY,
    }
}

pub(crate) fn http() -> reqwest::Client {
    let plain = reqwest::Client::builder().tls_certs_only([]);
    plain.build().unwrap()
}

/// What a setting can hold.
pub(crate) const TOKEN_OF_PROCESS: &str = "a-token-of-the-application-without-blanks";

/// The ingress as a process of its own, on the database and the Polar of a test.
pub(crate) struct IngressProcess {
    child: Child,
    pub(crate) address: SocketAddr,
    /// What it logs.
    log: NamedTempFile,
}

impl Drop for IngressProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

impl IngressProcess {
    /// Asks it as the application's server.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        let server = format!("Bearer {TOKEN_OF_PROCESS}");
        let headers = [("authorization", server.as_str())];
        let (http, address) = (http(), self.address);
        send(&http, address, &As::Nobody, "GET", path, None, &headers).await
    }

    /// Starts one and waits until it listens.
    pub(crate) async fn start(app: &ApiApp, settings: &[(&str, &str)]) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let log = NamedTempFile::new().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_polar-jobs"))
            .args(["ingress", "--port", &address.port().to_string()])
            .env_clear()
            .envs(app.environment())
            .env("APP_TOKEN", TOKEN_OF_PROCESS)
            .envs(settings.iter().copied())
            .stdout(Stdio::null())
            .stderr(log.reopen().unwrap())
            .spawn()
            .unwrap();
        let health = format!("http://{address}/health");
        let http = http();
        app.until("the process listens", async || {
            let ended = child.try_wait().unwrap();
            assert_eq!(ended, None, "{:?}", std::fs::read_to_string(log.path()));
            http.get(&health).send().await.is_ok()
        })
        .await;
        Self {
            child,
            address,
            log,
        }
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }
}

/// The API once more beside the first one, with another way to Polar.
pub(crate) struct SecondServer {
    address: SocketAddr,
    server: JoinHandle<()>,
    http: reqwest::Client,
}

impl Drop for SecondServer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl SecondServer {
    pub(crate) async fn ask(&self, who: &As, method: &str, path: &str) -> Answer {
        self.send(who, method, path, None).await
    }

    pub(crate) async fn send(
        &self,
        who: &As,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Answer {
        send(&self.http, self.address, who, method, path, body, &[]).await
    }
}

pub(crate) async fn second_server(app: &ApiApp, polar: polar::Client) -> SecondServer {
    server_on(app, polar, app.pool.clone()).await
}

/// The same with connections of its own to the database.
pub(crate) async fn server_on(app: &ApiApp, polar: polar::Client, pool: PgPool) -> SecondServer {
    let mut settings = settings(&app.app);
    settings.polar = Some(polar);
    settings.pool = pool;
    let (address, server) = serve(settings).await;
    SecondServer {
        address,
        server,
        http: app.http.clone(),
    }
}

/// A client for the API with a limiter of its own.
pub(crate) fn client(app: &TestApp, limiter: Arc<dyn RateLimiter>) -> polar::Client {
    client_within(app, limiter, CALL_TIMEOUT)
}

/// The same with another timeout of each call.
pub(crate) fn client_within(
    app: &TestApp,
    limiter: Arc<dyn RateLimiter>,
    timeout: Duration,
) -> polar::Client {
    let config = client_config(app.simulator.url(), app.simulator.access_token(), timeout);
    polar::Client::new(config, limiter).unwrap()
}

pub(crate) async fn serve(settings: ApiSettings) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = api::router(settings);
    let server = tokio::spawn(serve_operations(listener, router, std::future::pending()));
    (address, server)
}

pub(crate) async fn send(
    http: &reqwest::Client,
    address: SocketAddr,
    who: &As,
    method: &str,
    path: &str,
    body: Option<&Value>,
    headers: &[(&str, &str)],
) -> Answer {
    let mut request = http
        .request(method.parse().unwrap(), format!("http://{address}{path}"))
        .timeout(DEADLINE);
    request = match who {
        As::Nobody => request,
        As::Server => request.bearer_auth(APP_TOKEN),
        As::ServerFor(user) => request.bearer_auth(APP_TOKEN).header("on-behalf-of", user),
        As::Browser(user) => request.bearer_auth(session(user)),
    };
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if let Some(body) = body {
        request = request.json(body);
    }
    let answer = request.send().await.unwrap();
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let text = answer.text().await.unwrap();
    Answer {
        status,
        headers,
        body: serde_json::from_str(&text).unwrap_or(Value::String(text)),
    }
}

/// A token as the application makes it.
pub(crate) fn session(user: &str) -> String {
    signed(&json!({"sub": user, "aud": "polar-jobs", "exp": now() + 600}))
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    chrono::Utc::now().timestamp().try_into().unwrap()
}

pub(crate) fn signed(claims: &Value) -> String {
    let message = unsigned("HS256", claims);
    let mut key = Hmac::<Sha256>::new_from_slice(SESSION_SECRET.as_bytes()).unwrap();
    key.update(message.as_bytes());
    with_signature(&message, &key.finalize().into_bytes())
}

/// What is signed of a token, made as RFC 7515 says and not with the library that checks it.
pub(crate) fn unsigned(algorithm: &str, claims: &Value) -> String {
    let part = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let header = json!({"typ": "JWT", "alg": algorithm});
    format!("{}.{}", part(&header), part(claims))
}

pub(crate) fn with_signature(message: &str, signature: &[u8]) -> String {
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

pub(crate) fn mail(user: &str) -> String {
    format!("{}@example.com", &user[..8])
}
