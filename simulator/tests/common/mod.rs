//! Every test talks to the simulator as a stranger would, over HTTP.

#![allow(clippy::unwrap_used, dead_code, unreachable_pub, missing_docs)] // shared by tests; not every test uses all

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use simulator::{Options, Simulator};

/// Long enough for a busy machine, short enough for a hanging test.
pub const TIMEOUT: Duration = Duration::from_secs(20);

pub fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

pub async fn start(options: Options) -> Simulator {
    Simulator::start(options, loopback()).await.unwrap()
}

/// A simulator with the team customer `acme`, a caller of its API, and the receiver of its deliveries.
pub async fn start_with_acme(options: Options) -> (Simulator, Api, Receiver) {
    let (receiver, url) = Receiver::start(&[]).await;
    let simulator = start(Options {
        webhook_url: Some(url),
        ..options
    })
    .await;
    let api = Api::of(&simulator);
    assert_eq!(api.create_customer("acme").await.status, 201);
    (simulator, api, receiver)
}

/// The clock is stopped on the first of November, which has thirty days.
pub fn stopped_clock() -> Options {
    Options {
        now: Some("2026-11-01T00:00:00Z".parse().unwrap()),
        ..Options::default()
    }
}

/// A client without redirects.
pub fn client() -> reqwest::Client {
    let _already = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .unwrap()
}

/// An answer, as far as tests look at it.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Answer {
    /// Fails unless it has this status, and this value in this field.
    #[track_caller]
    pub fn has(&self, status: u16, field: &str, value: impl Into<Value>) {
        let found = (self.status, &self.body[field]);
        assert_eq!(found, (status, &value.into()), "{}", self.body);
    }

    /// Fails unless it finds the request invalid at this place of its body first.
    #[track_caller]
    pub fn finds_invalid(&self, field: &str) {
        let found = (self.status, &self.body["detail"][0]["loc"]);
        assert_eq!(found, (422, &json!(["body", field])), "{}", self.body);
    }
}

/// Calls the API with the simulator's own token.
pub struct Api {
    pub base: String,
    pub token: String,
    pub client: reqwest::Client,
}

impl Api {
    pub fn of(simulator: &Simulator) -> Self {
        Self {
            base: simulator.url(),
            token: simulator.access_token().to_owned(),
            client: client(),
        }
    }

    pub async fn call(&self, method: &str, path: &str, body: Value) -> Answer {
        self.try_call(method, path, body).await.unwrap()
    }

    pub async fn try_call(
        &self,
        method: &str,
        path: &str,
        body: Value,
    ) -> Result<Answer, reqwest::Error> {
        let url = format!("{}{path}", self.base);
        let mut request = self
            .client
            .request(method.parse().unwrap(), url)
            .bearer_auth(&self.token);
        if !body.is_null() {
            request = request.json(&body);
        }
        read(request.send().await?).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, Value::Null).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call("POST", path, body).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.call("PATCH", path, body).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", path, Value::Null).await
    }

    /// A team customer with an owner whose external id is `{external_id}-owner`.
    pub async fn create_customer(&self, external_id: &str) -> Answer {
        let owner = json!({
            "email": format!("{external_id}@example.com"), "name": "Owner",
            "external_id": format!("{external_id}-owner"),
        });
        let body =
            json!({"type": "team", "name": "Acme", "external_id": external_id, "owner": owner});
        self.post("/v1/customers/", body).await
    }

    pub async fn ingest(&self, events: Value) -> Answer {
        self.post("/v1/events/ingest", json!({"events": events}))
            .await
    }
}

pub async fn read(response: reqwest::Response) -> Result<Answer, reqwest::Error> {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await?;
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Ok(Answer {
        status,
        headers,
        body,
    })
}

/// One delivery as it came in.
#[derive(Debug, Clone)]
pub struct Received {
    pub id: String,
    pub timestamp: String,
    pub signature: String,
    pub user_agent: String,
    pub text: String,
    pub body: Value,
}

#[derive(Default)]
struct Inbox {
    received: Vec<Received>,
    answers: Vec<u16>,
}

/// An application that takes deliveries; `answers` are given first, then 202.
#[derive(Clone, Default)]
pub struct Receiver {
    inbox: Arc<Mutex<Inbox>>,
}

impl Receiver {
    pub async fn start(answers: &[u16]) -> (Self, String) {
        let receiver = Self::default();
        receiver.inbox.lock().unwrap().answers = answers.iter().rev().copied().collect();
        let listener = tokio::net::TcpListener::bind(loopback()).await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let router = Router::new().fallback(take).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (receiver, url)
    }

    pub fn received(&self) -> Vec<Received> {
        self.inbox.lock().unwrap().received.clone()
    }

    pub fn types(&self) -> Vec<String> {
        self.received()
            .iter()
            .map(|one| one.body["type"].as_str().unwrap().to_owned())
            .collect()
    }

    pub fn of_type(&self, kind: &str) -> Vec<Received> {
        self.received()
            .into_iter()
            .filter(|one| one.body["type"] == kind)
            .collect()
    }

    pub fn clear(&self) {
        self.inbox.lock().unwrap().received.clear();
    }
}

async fn take(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let header = |name: &str| headers.get(name).unwrap().to_str().unwrap().to_owned();
    let text = String::from_utf8(body.to_vec()).unwrap();
    let mut inbox = receiver.inbox.lock().unwrap();
    inbox.received.push(Received {
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp"),
        signature: header("webhook-signature"),
        user_agent: header("user-agent"),
        body: serde_json::from_str(&text).unwrap(),
        text,
    });
    let answer = inbox.answers.pop().unwrap_or(202);
    StatusCode::from_u16(answer).unwrap()
}
