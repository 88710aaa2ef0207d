//! A worker whose way to Polar leads through a gateway that fails as instructed: for some customers, for
//! everybody, or in its own words.

use std::future::IntoFuture;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::Response;
use jobs::contract::{Fees, Settings};
use polar_jobs::limiter::{FleetRateLimiter, Limits, Timing};
use polar_jobs::queue::connect::{ConnectionBudget, Pooler, QueueDatabase};
use polar_jobs::worker::{QueueSlots, WorkerSettings, run};
use private_postgres::testing::{TestDatabase, database};
use serde_json::{Value, json};
use simulator::Options;
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::local_polar::{LocalPolar, client_config};
use crate::wait::{DEADLINE, comes_true_within};

/// What the gateway does to a request: method, path, body.
type Rule = dyn Fn(&str, &str, &str) -> Option<Answer> + Send + Sync;

/// An answer of the gateway's own.
struct Answer {
    status: u16,
    content_type: &'static str,
    body: &'static str,
}

/// What Polar itself says when it stumbles.
const STUMBLED: Answer = Answer {
    status: 500,
    content_type: "text/plain",
    body: "Internal Server Error",
};

/// Polar's days in seconds; but once open, the breaker stays so for longer than any test waits.
const TIMING: Timing = Timing {
    breaker_first_delay: Duration::from_secs(3600),
    breaker_longest_delay: Duration::from_secs(3600),
    token_probe_interval: Duration::from_millis(500),
    token_probe_timeout: Duration::from_millis(100),
    ..Timing::PRODUCTION
};

struct TestApp {
    pool: PgPool,
    polar: LocalPolar,
    rule: Arc<Mutex<Arc<Rule>>>,
    gateway: JoinHandle<()>,
    stop: Option<oneshot::Sender<()>>,
    worker: JoinHandle<()>,
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.gateway.abort();
        self.worker.abort();
    }
}

impl TestApp {
    async fn start(timing: Timing, token: &str, scopes: &[&str]) -> Self {
        let TestDatabase { url, pool } = database(polar_jobs::migrate::migrator).await;
        let polar = LocalPolar::start(Options::default()).await;
        polar.add_token(token, scopes);
        let rule: Arc<Mutex<Arc<Rule>>> = Arc::new(Mutex::new(Arc::new(|_, _, _| None)));
        let (address, gateway) = gateway(polar.url(), Arc::clone(&rule)).await;
        let limits = Limits {
            per_window: NonZeroU32::new(100_000).unwrap(),
            in_flight: NonZeroU32::new(16).unwrap(),
        };
        let limiter = FleetRateLimiter::new(pool.clone(), limits, timing);
        let config = client_config(address, token, Duration::from_secs(20));
        let fees = Fees {
            basis_points: 500,
            fixed: 50,
            subscription_basis_points: 0,
        };
        let settings = WorkerSettings {
            database: QueueDatabase::new(&url, Pooler::None).unwrap(),
            connections: ConnectionBudget::of(10),
            pool: pool.clone(),
            registry: Arc::new(jobs::registry()),
            polar: Some(polar::Client::new(config, Arc::new(limiter)).unwrap()),
            mail: None,
            settings: Arc::new(Settings {
                self_organization: Some(polar.organization_id()),
                platform_fees: fees,
                early_fees: fees,
                ..Settings::default()
            }),
            queues: vec![QueueSlots {
                queue: "default".to_owned(),
                slots: 10,
            }],
            slots: 10,
            drain: false,
            drain_timeout: Duration::from_secs(5),
            mask: Arc::new(|text| text),
        };
        let (stop, stopped) = oneshot::channel();
        let worker = tokio::spawn(async move {
            run(settings, async { drop(stopped.await) }).await.unwrap();
        });
        Self {
            pool,
            polar,
            rule,
            gateway,
            stop: Some(stop),
            worker,
        }
    }

    /// With a token that may do everything.
    async fn with_timing(timing: Timing) -> Self {
        Self::start(
            timing,
            TOKEN,
            &[CUSTOMERS, MEMBERS, SUBSCRIPTIONS, BENEFITS].concat(),
        )
        .await
    }

    fn gateway_answers(
        &self,
        rule: impl Fn(&str, &str, &str) -> Option<Answer> + Send + Sync + 'static,
    ) {
        *self.rule.lock().unwrap() = Arc::new(rule);
    }

    async fn change(&self, kind: &str, data: Value) {
        sqlx::query("SELECT polar_jobs.record_change($1, $2)")
            .bind(kind)
            .bind(data)
            .execute(&self.pool)
            .await
            .unwrap();
    }

    /// An organization in our tables, and sooner or later at Polar.
    async fn sign_up(&self) -> String {
        let (id, owner) = (Uuid::new_v4().to_string(), Uuid::new_v4().to_string());
        let owner = json!({"id": owner, "email": "owner@example.com", "name": "Olga Owner"});
        let data = json!({"id": id, "name": "Acme", "slug": "acme", "owner": owner});
        self.change("organization.created", data).await;
        id
    }

    async fn enqueue(&self, kind: &str, organization: &str) {
        sqlx::query("SELECT polar_jobs.enqueue($1, $2)")
            .bind(kind)
            .bind(json!({"external_customer_id": organization}))
            .execute(&self.pool)
            .await
            .unwrap();
    }

    /// Lets every waiting job run now.
    async fn hurry(&self) {
        sqlx::query("UPDATE polar_jobs.live_jobs SET run_at = now() WHERE worker IS NULL")
            .execute(&self.pool)
            .await
            .unwrap();
    }

    /// How often the jobs about an organization failed.
    async fn failures(&self, organization: &str) -> i64 {
        sqlx::query_scalar(
            "SELECT coalesce(sum(jsonb_array_length(errors)), 0)::bigint FROM polar_jobs.jobs
              WHERE payload::text LIKE '%' || $1 || '%'",
        )
        .bind(organization)
        .fetch_one(&self.pool)
        .await
        .unwrap()
    }

    async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    async fn until(&self, what: &str, holds: impl AsyncFnMut() -> bool) {
        if comes_true_within(DEADLINE, holds).await {
            return;
        }
        let rows: Vec<(String, String, Option<String>, Value)> =
            sqlx::query_as("SELECT kind, state, note, errors FROM polar_jobs.jobs ORDER BY id")
                .fetch_all(&self.pool)
                .await
                .unwrap();
        panic!("waited in vain until {what}: {rows:?}");
    }

    async fn stop(mut self) {
        drop(self.stop.take());
        (&mut self.worker).await.unwrap();
    }
}

/// Passes requests on to Polar, unless the rule has an answer.
async fn gateway(polar: String, rule: Arc<Mutex<Arc<Rule>>>) -> (String, JoinHandle<()>) {
    // Fails only where another test of this process was first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .tls_certs_only([])
        .build()
        .unwrap();
    let handler = move |request: Request| {
        let (client, polar, rule) = (client.clone(), polar.clone(), Arc::clone(&rule));
        async move {
            let (parts, body) = request.into_parts();
            let body = to_bytes(body, usize::MAX).await.unwrap();
            let path = parts.uri.to_string();
            let rule = Arc::clone(&rule.lock().unwrap());
            let own = rule(
                parts.method.as_str(),
                &path,
                &String::from_utf8_lossy(&body),
            );
            if let Some(answer) = own {
                let answered = Response::builder()
                    .status(answer.status)
                    .header("content-type", answer.content_type);
                return answered.body(Body::from(answer.body)).unwrap();
            }
            let mut headers = parts.headers;
            headers.remove("host");
            let passed_on = client
                .request(parts.method, format!("{polar}{path}"))
                .headers(headers)
                .body(body);
            let answer = passed_on.send().await.unwrap();
            let (status, headers) = (answer.status(), answer.headers().clone());
            let mut answered = Response::new(Body::from(answer.bytes().await.unwrap()));
            *answered.status_mut() = status;
            *answered.headers_mut() = headers;
            answered
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let served = axum::serve(listener, axum::Router::new().fallback(handler));
    let server = tokio::spawn(async move { served.into_future().await.unwrap() });
    (address, server)
}

const TOKEN: &str = "polar_oat_for_these_tests";
const CUSTOMERS: &[&str] = &["customers:read", "customers:write", "products:read"];
const MEMBERS: &[&str] = &["members:read", "members:write"];
const SUBSCRIPTIONS: &[&str] = &["subscriptions:read"];
const BENEFITS: &[&str] = &["benefits:read"];

/// An open breaker would hold up the healthy one for an hour.
#[tokio::test(flavor = "multi_thread")]
async fn two_customers_for_whom_polar_fails_use_up_their_own_budget_and_hold_up_nobody() {
    let app = TestApp::with_timing(TIMING).await;
    let broken = [Uuid::new_v4(), Uuid::new_v4()].map(|id| id.to_string());
    let about = broken.clone();
    app.gateway_answers(move |_, path, body| {
        let fails = about
            .iter()
            .any(|id| path.contains(id) || body.contains(id));
        fails.then_some(STUMBLED)
    });
    for id in &broken {
        let owner = json!({"id": Uuid::new_v4(), "email": "owner@example.com"});
        let data = json!({"id": id, "name": "Broken", "slug": "broken", "owner": owner});
        app.change("organization.created", data).await;
    }
    let failed_often = async |id: &String| {
        app.hurry().await;
        app.failures(id).await >= 6
    };
    for id in &broken {
        app.until("it failed six times", async || failed_often(id).await)
            .await;
    }
    let healthy = app.sign_up().await;
    app.until("the healthy one is at Polar", async || {
        app.polar.customer(&healthy).is_some()
    })
    .await;

    sqlx::query("UPDATE polar_jobs.live_jobs SET max_attempts = 7")
        .execute(&app.pool)
        .await
        .unwrap();
    let given_up = "SELECT count(*) FROM polar_jobs.jobs
                     WHERE state = 'discarded' AND errors -> -1 ->> 'error' LIKE '%Polar answered 500%'";
    app.until("both are given up", async || {
        app.hurry().await;
        app.count(given_up).await == 2
    })
    .await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_polar_is_down_for_everybody_jobs_wait_without_using_attempts_and_then_all_go_on() {
    let timing = Timing {
        breaker_first_delay: Duration::from_millis(500),
        breaker_longest_delay: Duration::from_millis(500),
        ..TIMING
    };
    let app = TestApp::with_timing(timing).await;
    app.gateway_answers(|_, _, _| Some(STUMBLED));
    let mut organizations = Vec::new();
    for _ in 0..40 {
        organizations.push(app.sign_up().await);
    }
    let waiting =
        "SELECT count(*) FROM polar_jobs.jobs WHERE note LIKE '%Polar was down a moment ago%'";
    app.until("most jobs wait", async || app.count(waiting).await >= 20)
        .await;
    let failures =
        "SELECT coalesce(sum(jsonb_array_length(errors)), 0)::bigint FROM polar_jobs.jobs";
    // Five open it; as many as run at once may be under way then.
    let charged = app.count(failures).await;
    assert!((5..=15).contains(&charged), "{charged} failures");

    app.gateway_answers(|_, _, _| None);
    app.until("all are at Polar", async || {
        app.hurry().await;
        organizations
            .iter()
            .all(|id| app.polar.customer(id).is_some())
    })
    .await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_scope_pauses_what_needs_it_and_nothing_else_until_it_is_granted() {
    let poor = [CUSTOMERS, MEMBERS].concat();
    let app = TestApp::start(TIMING, TOKEN, &poor).await;
    let first = app.sign_up().await;
    app.until("customers go on", async || {
        app.polar.customer(&first).is_some()
    })
    .await;
    app.enqueue("apply_benefits", &first).await;
    app.enqueue("sync_subscription", &first).await;
    let named = "SELECT count(*) FROM polar_jobs.jobs WHERE finished_at IS NULL
                    AND (kind = 'apply_benefits' AND note LIKE '%lacks the scope benefits:read%'
                      OR kind = 'sync_subscription' AND note LIKE '%lacks the scope subscriptions:read%')";
    app.until("both wait and say why", async || {
        app.count(named).await == 2
    })
    .await;
    let second = app.sign_up().await;
    app.until("customers still go on", async || {
        app.polar.customer(&second).is_some()
    })
    .await;
    assert_eq!(app.failures(&first).await, 0);

    app.polar
        .add_token(TOKEN, &[&poor[..], SUBSCRIPTIONS, BENEFITS].concat());
    let done = "SELECT count(*) FROM polar_jobs.jobs WHERE state = 'completed'
                   AND kind IN ('apply_benefits', 'sync_subscription')";
    // Each has to come back in a minute; then one of them is the probe.
    app.until("both go on by themselves", async || {
        app.hurry().await;
        app.count(done).await >= 2
    })
    .await;
    assert_eq!(app.failures(&first).await, 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateways_404_confirms_no_deletion_and_its_403_discards_no_job() {
    let app = TestApp::with_timing(TIMING).await;
    let organization = app.sign_up().await;
    app.until("it is at Polar", async || {
        app.polar.customer(&organization).is_some()
    })
    .await;
    for (failures, status, content_type, body) in [
        (
            1,
            404,
            "application/json",
            r#"{"message": "no Route matched with those values"}"#,
        ),
        (
            2,
            404,
            "application/json",
            r#"{"error": "Not Found", "detail": "unknown host"}"#,
        ),
        (3, 403, "text/html", "<html>Access denied</html>"),
        (4, 400, "text/html", ""),
    ] {
        app.gateway_answers(move |_, _, _| {
            Some(Answer {
                status,
                content_type,
                body,
            })
        });
        if failures == 1 {
            let deleted = json!({"id": organization});
            app.change("organization.deleted", deleted).await;
        }
        app.until("the deletion failed once more", async || {
            app.hurry().await;
            app.failures(&organization).await >= failures
        })
        .await;
        assert!(app.polar.customer(&organization).is_some());
    }
    app.gateway_answers(|_, _, _| None);
    app.until("Polar confirms", async || {
        app.hurry().await;
        app.polar.customer(&organization).is_none()
    })
    .await;
    let discarded = "SELECT count(*) FROM polar_jobs.jobs WHERE state = 'discarded'";
    assert_eq!(app.count(discarded).await, 0);
    app.stop().await;
}
