//! The senders of the ingress measurement.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::Utc;
use futures::future::try_join_all;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

/// Bytes of a delivery's body.
const BODY: usize = 2048;

/// So many clients, each sending its next delivery when the one before is answered.
pub(super) struct Load {
    pub(super) address: SocketAddr,
    pub(super) secret: &'static str,
    pub(super) clients: usize,
    pub(super) duration: Duration,
}

/// What the clients saw.
pub(super) struct Measured {
    pub(super) elapsed: Duration,
    /// Of accepted deliveries, sorted.
    pub(super) latencies: Vec<Duration>,
}

impl Load {
    /// Blocks until every client is done.
    pub(super) fn run(self) -> anyhow::Result<Measured> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        runtime.block_on(async {
            let started = Instant::now();
            let ends = super::deadline(self.duration);
            let clients = (0..self.clients).map(|_| Client::new(&self).send_until(ends));
            let mut latencies = try_join_all(clients).await?.concat();
            let elapsed = started.elapsed();
            latencies.sort_unstable();
            Ok(Measured { elapsed, latencies })
        })
    }
}

struct Client {
    address: SocketAddr,
    key: Hmac<Sha256>,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Client {
    fn new(load: &Load) -> Self {
        Self {
            address: load.address,
            key: Hmac::new_from_slice(load.secret.as_bytes())
                .expect("HMAC takes a key of any length"),
            request: Vec::with_capacity(BODY + 512),
            answer: vec![0; 1024],
        }
    }

    async fn send_until(mut self, ends: Instant) -> anyhow::Result<Vec<Duration>> {
        let mut stream = TcpStream::connect(self.address)
            .await
            .context("cannot reach the ingress")?;
        stream.set_nodelay(true)?;
        let mut latencies = Vec::new();
        while Instant::now() < ends {
            self.sign(&body());
            let sent = Instant::now();
            stream.write_all(&self.request).await?;
            self.accepted(&mut stream).await?;
            latencies.push(sent.elapsed());
        }
        Ok(latencies)
    }

    fn sign(&mut self, body: &str) {
        let (id, timestamp) = (Uuid::new_v4(), Utc::now().timestamp());
        let mac = self
            .key
            .clone()
            .chain_update(format!("{id}.{timestamp}."))
            .chain_update(body)
            .finalize();
        let signature = STANDARD.encode(mac.into_bytes());
        self.request.clear();
        self.request.extend_from_slice(
            format!(
                "POST /integrations/polar/webhook HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                 content-length: {}\r\nwebhook-id: {id}\r\nwebhook-timestamp: {timestamp}\r\n\
                 webhook-signature: v1,{signature}\r\n\r\n{body}",
                body.len()
            )
            .as_bytes(),
        );
    }

    /// Reads one answer, whose body is a small JSON object without another inside.
    async fn accepted(&mut self, stream: &mut TcpStream) -> anyhow::Result<()> {
        let mut read = 0;
        while !self.answer[..read].ends_with(b"}") {
            let more = stream.read(&mut self.answer[read..]).await?;
            if more == 0 {
                bail!("the ingress hung up");
            }
            read += more;
        }
        let answer = &self.answer[..read];
        if !answer.starts_with(b"HTTP/1.1 202") {
            bail!(
                "a delivery was refused: {}",
                String::from_utf8_lossy(answer)
            );
        }
        Ok(())
    }
}

/// A grant for a customer of its own, so that no job is spared by another one's key.
fn body() -> String {
    let (customer, organization, grant) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    let start = format!(
        r#"{{"type":"benefit_grant.created","timestamp":"2026-08-14T09:12:09.640112Z","data":{{"id":"{grant}","customer_id":"{customer}","customer":{{"id":"{customer}","external_id":"{organization}"}},"is_granted":true,"note":""#
    );
    let filling = "x".repeat(BODY.saturating_sub(start.len() + 3));
    format!(r#"{start}{filling}"}}}}"#)
}
