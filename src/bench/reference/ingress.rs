//! The least that an endpoint for deliveries can do: verify the signature, store the body and one job,
//! answer after the commit. In groups that share a commit, or with one commit for each.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use chrono::Utc;
use polar::webhook::{SignatureHeaders, Verifier};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, PgConnection, PgPool};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc, oneshot};

use super::prepare;
use crate::bench::ingress::{Bodies, Measured, SECRET, generate};

/// Deliveries per statement.
const GROUP: usize = 256;
/// Writers of groups: one flushes while the other fills its statement.
const WRITERS: usize = 2;
/// Connections where each delivery has a commit of its own.
const CONNECTIONS: u32 = 16;

/// A body, and whom to tell whether it is stored.
type Waiting = (Bytes, oneshot::Sender<bool>);

/// How deliveries are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Commits {
    /// What arrives while a commit is under way shares the next one.
    Group,
    /// One for each delivery.
    Single,
}

struct Endpoint {
    verifier: Verifier,
    store: Store,
}

enum Store {
    Group(mpsc::Sender<Waiting>),
    Single(PgPool),
}

/// Sends the load of the product's measurement to an endpoint of this kind.
pub(super) async fn measure(
    options: &PgConnectOptions,
    clients: usize,
    seconds: u64,
    bodies: Bodies,
    commits: Commits,
) -> anyhow::Result<Measured> {
    let address = serve(options, SECRET, commits).await?;
    generate(address, clients, seconds, bodies).await
}

/// An endpoint on a free port of loopback. It ends with the runtime.
async fn serve(
    options: &PgConnectOptions,
    secret: &str,
    commits: Commits,
) -> anyhow::Result<SocketAddr> {
    prepare(options).await?;
    let store = match commits {
        Commits::Group => Store::Group(writers(options).await?),
        Commits::Single => {
            let pool = PgPoolOptions::new().max_connections(CONNECTIONS);
            let pool = pool.min_connections(CONNECTIONS).test_before_acquire(false);
            Store::Single(pool.connect_with(options.clone()).await?)
        }
    };
    let endpoint = Endpoint {
        verifier: Verifier::new(vec![secret.to_owned().into()]),
        store,
    };
    let router = Router::new()
        .route("/integrations/polar/webhook", post(receive))
        .with_state(Arc::new(endpoint));
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .context("no port is free")?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}

async fn receive(
    State(endpoint): State<Arc<Endpoint>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let named = |name| headers.get(name).map(HeaderValue::as_bytes);
    let signature = SignatureHeaders {
        id: named("webhook-id"),
        timestamp: named("webhook-timestamp"),
        signature: named("webhook-signature"),
    };
    if endpoint
        .verifier
        .verify(signature, &body, Utc::now())
        .is_err()
    {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if endpoint.store.store(body).await {
        (StatusCode::ACCEPTED, "{}").into_response()
    } else {
        StatusCode::SERVICE_UNAVAILABLE.into_response()
    }
}

impl Store {
    async fn store(&self, body: Bytes) -> bool {
        match self {
            Self::Group(writers) => {
                let (stored_tx, stored_rx) = oneshot::channel();
                writers.send((body, stored_tx)).await.is_ok() && stored_rx.await.unwrap_or(false)
            }
            Self::Single(pool) => sqlx::query(
                "WITH event AS (INSERT INTO reference.events (body) VALUES ($1) RETURNING id)
                 INSERT INTO reference.event_jobs (event_id) SELECT id FROM event",
            )
            .bind(&body[..])
            .execute(pool)
            .await
            .is_ok(),
        }
    }
}

async fn writers(options: &PgConnectOptions) -> Result<mpsc::Sender<Waiting>, sqlx::Error> {
    let (tx, rx) = mpsc::channel(4096);
    let rx = Arc::new(Mutex::new(rx));
    for _ in 0..WRITERS {
        tokio::spawn(write_groups(options.connect().await?, Arc::clone(&rx)));
    }
    Ok(tx)
}

async fn write_groups(mut connection: PgConnection, rx: Arc<Mutex<mpsc::Receiver<Waiting>>>) {
    let mut group = Vec::new();
    while rx.lock().await.recv_many(&mut group, GROUP).await > 0 {
        let bodies: Vec<&[u8]> = group.iter().map(|(body, _): &Waiting| &body[..]).collect();
        let stored = sqlx::query(
            "WITH event AS (INSERT INTO reference.events (body) SELECT unnest($1::bytea[]) RETURNING id)
             INSERT INTO reference.event_jobs (event_id) SELECT id FROM event",
        )
        .bind(bodies)
        .execute(&mut connection)
        .await
        .is_ok();
        for (_, caller) in group.drain(..) {
            // A sender that hung up needs no answer.
            let _gone = caller.send(stored);
        }
    }
}
