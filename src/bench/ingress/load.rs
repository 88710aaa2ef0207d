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

use super::Bodies;

/// Bytes of a delivery's body.
const BODY: usize = 2048;

/// So many clients, each sending its next delivery when the one before is answered.
pub(super) struct Load {
    pub(super) address: SocketAddr,
    pub(super) secret: &'static str,
    pub(super) clients: usize,
    pub(super) duration: Duration,
    pub(super) bodies: Bodies,
}

/// What the clients saw.
pub(in crate::bench) struct Measured {
    pub(in crate::bench) elapsed: Duration,
    /// Of accepted deliveries, sorted.
    pub(in crate::bench) latencies: Vec<Duration>,
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
            let bodies = match self.bodies {
                Bodies::Uniform => vec![uniform()],
                Bodies::Recorded => recorded(),
            };
            let clients = (0..self.clients).map(|_| Client::new(&self, &bodies).send_until(ends));
            let mut latencies = try_join_all(clients).await?.concat();
            let elapsed = started.elapsed();
            latencies.sort_unstable();
            Ok(Measured { elapsed, latencies })
        })
    }
}

struct Client<'a> {
    address: SocketAddr,
    /// Sent in turn, each time with ids of their own.
    bodies: &'a [String],
    sent: usize,
    key: Hmac<Sha256>,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl<'a> Client<'a> {
    fn new(load: &Load, bodies: &'a [String]) -> Self {
        Self {
            address: load.address,
            bodies,
            sent: 0,
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
            let body = self.body();
            self.sign(&body);
            let sent = Instant::now();
            stream.write_all(&self.request).await?;
            self.accepted(&mut stream).await?;
            latencies.push(sent.elapsed());
        }
        Ok(latencies)
    }

    fn body(&mut self) -> String {
        self.sent += 1;
        let mut body = self.bodies[self.sent % self.bodies.len()].clone();
        for id in SUBJECTS {
            body = body.replace(id, &Uuid::new_v4().to_string());
        }
        body
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

/// A grant, filled with the words of a recorded one: it is compressed where it is stored.
fn uniform() -> String {
    let [customer, organization, ..] = SUBJECTS;
    let grant = Uuid::new_v4();
    let start = format!(
        r#"{{"type":"benefit_grant.created","timestamp":"2026-08-14T09:12:09.640112Z","data":{{"id":"{grant}","customer_id":"{customer}","customer":{{"id":"{customer}","external_id":"{organization}"}},"is_granted":true,"note":""#
    );
    let words = DELIVERIES[0]
        .chars()
        .filter(|letter| letter.is_ascii_graphic() && !matches!(letter, '"' | '\\'));
    let filling: String = words.cycle().take(BODY - start.len() - 3).collect();
    format!(r#"{start}{filling}"}}}}"#)
}

/// The ids in the payloads that jobs have keys of: customer, organization, order, subscription. Each delivery gets
/// its own, so that none joins a job that waits.
const SUBJECTS: [&str; 4] = [
    "9b8d41e8-ad45-4b7d-a541-38d781be09da",
    "2458e540-24e4-46e5-b2cf-6caac4b9c637",
    "e87c7e19-87dd-4a7b-96b4-a45783ff2e5a",
    "54592217-2316-4ce5-8a1f-e96689271325",
];

const DELIVERIES: [&str; 22] = [
    include_str!("deliveries/benefit_grant.created.json"),
    include_str!("deliveries/benefit_grant.cycled.json"),
    include_str!("deliveries/benefit_grant.revoked.json"),
    include_str!("deliveries/benefit_grant.updated.json"),
    include_str!("deliveries/customer.created.json"),
    include_str!("deliveries/customer.deleted.json"),
    include_str!("deliveries/customer.state_changed.json"),
    include_str!("deliveries/customer.updated.json"),
    include_str!("deliveries/member.created.json"),
    include_str!("deliveries/member.deleted.json"),
    include_str!("deliveries/member.updated.json"),
    include_str!("deliveries/order.created.json"),
    include_str!("deliveries/order.paid.json"),
    include_str!("deliveries/order.updated.json"),
    include_str!("deliveries/subscription.active.json"),
    include_str!("deliveries/subscription.canceled.json"),
    include_str!("deliveries/subscription.created.json"),
    include_str!("deliveries/subscription.cycled.json"),
    include_str!("deliveries/subscription.past_due.json"),
    include_str!("deliveries/subscription.revoked.json"),
    include_str!("deliveries/subscription.uncanceled.json"),
    include_str!("deliveries/subscription.updated.json"),
];

/// Without the white space that makes the files readable: Polar sends none.
fn recorded() -> Vec<String> {
    let compact = |text: &&str| {
        let value: serde_json::Value =
            serde_json::from_str(text).expect("the payloads of the benchmark are JSON");
        value.to_string()
    };
    DELIVERIES.iter().map(compact).collect()
}
