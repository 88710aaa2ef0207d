//! The application's side of its webhook: a small HTTP server that answers as it is told, one request per connection.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use jobs::app_webhook::{AppWebhook, AppWebhookSettings, SigningKey};
use serde_json::Value;
use standardwebhooks::Webhook;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEXT_SECRET: &str = "whsec_TmV4dE5leHROZXh0TmV4dE5leHROZXh0";

/// How a request ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// With a status, and these header lines.
    Status(u16, &'static str),
    /// The connection closes, although the message was read.
    Lost,
    /// With 200, once the test lets it.
    Held,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) path: String,
    pub(crate) id: String,
    pub(crate) body: Value,
}

pub(crate) struct Application {
    url: String,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    answers: Mutex<VecDeque<Answer>>,
    received: Mutex<Vec<Received>>,
    released: Semaphore,
}

impl Drop for Application {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Application {
    /// Answers in this order, then with 200.
    pub(crate) async fn start(answers: &[Answer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hooks/", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            answers: Mutex::new(answers.iter().copied().collect()),
            received: Mutex::default(),
            released: Semaphore::new(0),
        });
        let serving = Arc::clone(&shared);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                tokio::spawn(async move { shared.serve(stream).await });
            }
        });
        Self {
            url,
            shared,
            server,
        }
    }

    /// What a worker needs to reach it, signing with both of two secrets.
    pub(crate) fn webhook(&self) -> AppWebhook {
        let keys = [NEXT_SECRET, SECRET].map(|secret| SigningKey::parse(secret).unwrap());
        AppWebhook::new(AppWebhookSettings {
            url: self.url.parse().unwrap(),
            keys: keys.into(),
        })
        .unwrap()
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    /// Types and data of all messages, in order.
    pub(crate) fn news(&self) -> Vec<(String, Value)> {
        let all = self.received().into_iter();
        all.map(|mut one| {
            let kind = one.body["type"].as_str().unwrap_or_default().to_owned();
            (kind, one.body["data"].take())
        })
        .collect()
    }

    /// Lets one held request be answered.
    pub(crate) fn release(&self) {
        self.shared.released.add_permits(1);
    }
}

impl Shared {
    async fn serve(&self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.unwrap() == 0 {
                return;
            }
            if line.trim().is_empty() {
                break;
            }
            head.push(line.trim().to_owned());
        }
        let header = |name: &str| {
            let found = head.iter().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim())
            });
            found.unwrap_or_default().to_owned()
        };
        let mut body = vec![0; header("content-length").parse().unwrap()];
        stream.read_exact(&mut body).await.unwrap();

        let mut headers = reqwest::header::HeaderMap::new();
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
            headers.insert(name, header(name).parse().unwrap());
        }
        let verified = Webhook::new(SECRET).unwrap().verify(&body, &headers);
        verified.expect("a stock library accepts the signature");
        let path = head[0].split(' ').nth(1).unwrap().to_owned();
        self.received.lock().unwrap().push(Received {
            path,
            id: header("webhook-id"),
            body: serde_json::from_slice(&body).unwrap(),
        });
        let answer = self.answers.lock().unwrap().pop_front();
        let (status, lines) = match answer {
            None => (200, ""),
            Some(Answer::Status(status, lines)) => (status, lines),
            Some(Answer::Lost) => return,
            Some(Answer::Held) => {
                self.released.acquire().await.unwrap().forget();
                (200, "")
            }
        };
        let answer =
            format!("HTTP/1.1 {status} x\r\n{lines}content-length: 0\r\nconnection: close\r\n\r\n");
        // Who asked may have given up.
        let _sent = stream.write_all(answer.as_bytes()).await;
    }
}
