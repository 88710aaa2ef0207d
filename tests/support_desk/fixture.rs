//! The application with a local Plain beside it.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::time::Duration;

use jobs::contract::SupportDesk;
use plain::{Client, ClientConfig, Delays};
use serde_json::{Value, json};
use simulator::{Options, PlainOptions, PlainRequestRecord, PlainSimulator};

use crate::test_app::{Tenant, TestApp};

/// Short, so that a test need not wait for the next probe.
const DELAYS: Delays = Delays {
    first: Duration::from_millis(1),
    longest: Duration::from_millis(2),
    token: Duration::from_millis(1),
};

pub(crate) struct SupportDeskApp {
    app: TestApp,
    pub(crate) plain: PlainSimulator,
}

impl Deref for SupportDeskApp {
    type Target = TestApp;

    fn deref(&self) -> &TestApp {
        &self.app
    }
}

impl SupportDeskApp {
    /// With the default tier `free`.
    pub(crate) async fn open() -> Self {
        let app = Self::without_token().await;
        app.give_token(Some("free"));
        app
    }

    pub(crate) async fn without_token() -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let plain = PlainSimulator::start(PlainOptions::default(), address);
        Self {
            app: TestApp::open_with(Options {
                rate_limit_per_minute: u32::MAX,
                ..Options::default()
            })
            .await,
            plain: plain.await.unwrap(),
        }
    }

    /// Workers that start from now on know the support desk.
    pub(crate) fn give_token(&self, default_tier: Option<&str>) {
        self.give_token_and_time(default_tier, Duration::from_secs(1));
    }

    /// The same, and each call may take so long.
    pub(crate) fn give_token_and_time(&self, default_tier: Option<&str>, timeout: Duration) {
        let client = Client::new(ClientConfig {
            api_url: self.plain.url().parse().unwrap(),
            token: self.plain.token().into(),
            timeout,
            delays: DELAYS,
            user_agent: "tests".to_owned(),
        });
        *self.support_desk.lock().unwrap() = Some(SupportDesk {
            client: client.unwrap(),
            default_tier: default_tier.map(str::to_owned),
        });
    }

    /// An organization that everybody knows.
    pub(crate) async fn tenant(&self) -> Tenant {
        let tenant = Tenant::new();
        self.tell(&[tenant.created()]).await;
        self.resolve_waits().await;
        tenant
    }

    pub(crate) fn tier(&self, tenant: &Tenant) -> Option<String> {
        self.plain.tenant(&tenant.id).unwrap().tier
    }

    /// What was asked of Plain, without probes.
    pub(crate) fn asked(&self) -> Vec<PlainRequestRecord> {
        let requests = self.plain.requests().into_iter();
        requests
            .filter(|one| one.operation != "__typename")
            .collect()
    }

    /// The names of the operations asked since `before` had been asked.
    pub(crate) fn operations(&self, before: usize) -> Vec<String> {
        let asked = self.asked().into_iter().skip(before);
        asked.map(|one| one.operation).collect()
    }

    /// The failures of all jobs for the support desk.
    pub(crate) async fn failures(&self) -> Vec<Value> {
        self.app.failures("sync_support_desk").await
    }
}

pub(crate) fn renamed(tenant: &Tenant, name: &str) -> Value {
    json!({"type": "organization.updated", "data": {"id": tenant.id, "name": name}})
}
