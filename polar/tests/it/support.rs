//! A server on port 0 that answers as instructed and remembers what it was asked; recordings from disk.

use std::{
    future::{Future, IntoFuture},
    path::Path,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderMap, Response},
};
use polar::{Client, ClientConfig, RateLimiter, Unlimited};
use serde_json::Value;
use tokio::net::TcpListener;

use crate::{description::Description, request::Sent};

pub(crate) const TOKEN: &str = "polar_oat_test_0123456789";

/// One request as the server saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn json(&self) -> Value {
        if self.body.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&self.body).unwrap()
        }
    }

    pub(crate) fn query(&self, key: &str) -> Option<String> {
        let url = reqwest::Url::parse(&format!("http://h{}", self.path)).unwrap();
        url.query_pairs()
            .find(|(k, _)| k == key)
            .map(|(_, value)| value.into_owned())
    }
}

pub(crate) struct Server {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// Answers every request with what `answer` makes of it.
    pub(crate) async fn answering<F, A>(answer: F) -> Self
    where
        F: Fn(Seen) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Response<Body>> + Send,
    {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let handler = move |request: Request| {
            let (answer, log) = (answer.clone(), Arc::clone(&log));
            async move {
                let request = read(request).await;
                log.lock().unwrap().push(request.clone());
                answer(request).await
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback(handler);
        tokio::spawn(axum::serve(listener, app).into_future());
        Self { url, seen }
    }

    /// Answers every request with one recorded answer.
    pub(crate) async fn replaying(recording: &Recording) -> Self {
        let recording = recording.clone();
        Self::answering(move |_| {
            let response = recording.response();
            async move { response }
        })
        .await
    }

    pub(crate) fn client(&self) -> Client {
        self.client_with(Duration::from_secs(5), Arc::new(Unlimited))
    }

    pub(crate) fn client_with(&self, timeout: Duration, limiter: Arc<dyn RateLimiter>) -> Client {
        client(&self.url, timeout, limiter)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The only request so far.
    pub(crate) fn only_request(&self) -> Seen {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen.into_iter().next().unwrap()
    }
}

/// Whatever a test is about, what the client asked is as Polar describes it.
impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        static DESCRIPTION: LazyLock<Mutex<Description>> =
            LazyLock::new(|| Mutex::new(Description::closed()));
        let mut description = DESCRIPTION.lock().unwrap_or_else(PoisonError::into_inner);
        for request in self.seen() {
            let header = |name: &str| request.headers.get(name)?.to_str().ok();
            let sent = Sent {
                method: &request.method,
                target: &request.path,
                version: header("polar-version"),
                authorization: header("authorization"),
                content_type: header("content-type"),
                body: &request.json(),
            };
            assert_eq!(sent.objections(&mut description), Vec::<String>::new());
        }
    }
}

pub(crate) fn client(url: &str, timeout: Duration, limiter: Arc<dyn RateLimiter>) -> Client {
    let config = ClientConfig {
        base_url: url.to_owned(),
        access_token: TOKEN.into(),
        version: "2026-04".to_owned(),
        timeout,
        user_agent: "polar-jobs/test".to_owned(),
    };
    Client::new(config, limiter).unwrap()
}

async fn read(request: Request) -> Seen {
    let (parts, body) = request.into_parts();
    Seen {
        method: parts.method.to_string(),
        path: parts.uri.to_string(),
        headers: parts.headers,
        body: to_bytes(body, usize::MAX).await.unwrap().to_vec(),
    }
}

/// One recorded exchange.
#[derive(Clone)]
pub(crate) struct Recording {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) request: Value,
    pub(crate) answer: Value,
    status: u16,
    headers: Vec<(String, String)>,
}

impl Recording {
    pub(crate) fn named(name: &str) -> Self {
        let file = load(name);
        let headers = file["response"]["headers"].as_object().unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Self {
            method: text(&file["request"]["method"]),
            path: text(&file["request"]["path"]),
            request: file["request"]["body"].clone(),
            answer: file["response"]["body"].clone(),
            status: file["response"]["status"]
                .as_u64()
                .unwrap()
                .try_into()
                .unwrap(),
            headers: headers
                .iter()
                .filter(|(name, _)| !matches!(name.as_str(), "date" | "content-length"))
                .map(|(name, value)| (name.clone(), text(value)))
                .collect(),
        }
    }

    fn response(&self) -> Response<Body> {
        let mut response = Response::builder().status(self.status);
        for (name, value) in &self.headers {
            response = response.header(name, value);
        }
        let body = match &self.answer {
            Value::String(text) => text.clone(),
            json => json.to_string(),
        };
        response.body(Body::from(body)).unwrap()
    }

    /// The customer and member in the recorded path, where it has some.
    pub(crate) fn external_ids(&self) -> Vec<String> {
        let path = self.path.split('?').next().unwrap();
        let rest = path.split("/external/").nth(1).unwrap();
        rest.split('/')
            .filter(|segment| *segment != "members")
            .map(str::to_owned)
            .collect()
    }
}

/// A recorded file as JSON.
pub(crate) fn load(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/recordings")
        .join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
    serde_json::from_str(&text).unwrap()
}

/// An answer of our own making.
pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Response<Body> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(Body::from(body.to_owned())).unwrap()
}
