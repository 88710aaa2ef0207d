//! People who use the organizations API while deliveries come in: so many at once, each asking again when it is
//! answered, before a Polar that takes its time. Both live on threads of their own, so that the ingress' runtime
//! carries only what it carries in production.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use futures::future::try_join_all;
use jobs::contract::Fees;
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::api::{self, ApiSettings};
use crate::config::AppSettings;
use crate::queue::connect::Pooler;

/// How long Polar takes for an answer.
const POLAR_TAKES: Duration = Duration::from_millis(50);
/// A list of nothing, which is what an organization without a subscription has.
const NOTHING: &str = r#"{"items":[],"pagination":{"total_count":0,"max_page":0}}"#;
const TOKEN: &str = "polar-jobs bench ingress, nobody's token";

/// Somebody's organization each, and a Polar that knows none of them.
pub(super) struct ApiCallers {
    organizations: Vec<Uuid>,
    polar: SocketAddr,
    /// Dropped, it ends Polar.
    _stop_polar: oneshot::Sender<()>,
}

impl ApiCallers {
    /// Writes the organizations, and starts Polar.
    pub(super) async fn prepare(pool: &PgPool, callers: usize) -> anyhow::Result<Self> {
        let organizations = sqlx::query_scalar!(
            "INSERT INTO polar_jobs.organizations (id, name, slug, status, event_id)
             SELECT gen_random_uuid(), 'n', 's', 'active', 0 FROM generate_series(1, $1::bigint) RETURNING id",
            i64::try_from(callers).unwrap_or(i64::MAX),
        );
        let organizations = organizations.fetch_all(pool).await?;
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let polar = listener.local_addr()?;
        let (stop_polar, stopped) = oneshot::channel::<()>();
        on_a_thread("polar", async move {
            let listener = TcpListener::from_std(listener)?;
            let server = axum::serve(listener, Router::new().fallback(slow_polar));
            tokio::select! {
                served = server.into_future() => Ok(served?),
                _ = stopped => Ok(()),
            }
        })?;
        Ok(Self {
            organizations,
            polar,
            _stop_polar: stop_polar,
        })
    }

    /// The API that they call.
    pub(super) fn router(&self, pool: &PgPool) -> anyhow::Result<Router> {
        let config = polar::ClientConfig {
            base_url: format!("http://{}", self.polar),
            access_token: "polar_oat_bench".into(),
            version: polar::API_VERSION.to_owned(),
            timeout: Duration::from_secs(5),
            user_agent: "polar-jobs-bench".to_owned(),
        };
        Ok(api::router(ApiSettings {
            pool: pool.clone(),
            pooler: Pooler::None,
            polar: Some(polar::Client::new(config, Arc::new(polar::Unlimited))?),
            app_token: Some(TOKEN.into()),
            app: AppSettings::default(),
            self_organization: None,
            scale_product: None,
            platform_fees: Fees::ZERO,
            early_fees: Fees::ZERO,
        }))
    }

    /// Asks the API at this address until the time is over. Returns how long each answer took, sorted; the
    /// receiver is dropped where an answer was no success.
    pub(super) fn ask(
        &self,
        ingress: SocketAddr,
        ends: Instant,
    ) -> anyhow::Result<oneshot::Receiver<Vec<Duration>>> {
        let (done, result) = oneshot::channel();
        let urls = self.organizations.iter().map(|organization| {
            format!("http://{ingress}/v1/organizations/{organization}/subscription")
        });
        let urls: Vec<String> = urls.collect();
        on_a_thread("people", async move {
            let http = reqwest::Client::builder().tls_certs_only([]).build()?;
            let people = urls.iter().map(|url| person(&http, url, ends));
            let mut latencies = try_join_all(people).await?.concat();
            latencies.sort_unstable();
            let _nobody_waits_any_more = done.send(latencies);
            Ok(())
        })?;
        Ok(result)
    }
}

async fn person(http: &reqwest::Client, url: &str, ends: Instant) -> anyhow::Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    while Instant::now() < ends {
        let asked = Instant::now();
        let answer = http.get(url).bearer_auth(TOKEN).send().await?;
        let status = answer.status();
        answer.bytes().await?;
        ensure!(status.is_success(), "the API answered {status}");
        latencies.push(asked.elapsed());
    }
    Ok(latencies)
}

async fn slow_polar() -> impl IntoResponse {
    tokio::time::sleep(POLAR_TAKES).await;
    let headers = [
        (CONTENT_TYPE.as_str(), "application/json"),
        ("polar-version", polar::API_VERSION),
    ];
    (headers, NOTHING)
}

/// Runs it on a thread and a runtime of its own; what goes wrong there is said.
fn on_a_thread(
    name: &str,
    work: impl Future<Output = anyhow::Result<()>> + Send + 'static,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(move || {
        if let Err(error) = runtime.block_on(work) {
            tracing::error!(%error, "a part of the measurement failed");
        }
    });
    spawned.map(drop).context("no thread can be started")
}
