//! A mail server on an [`Installation`], and a worker that sends mail to it.

#[path = "../installation/mod.rs"]
#[allow(dead_code, reason = "the tests of sync use the rest")]
mod installation;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use installation::{Installation, RunningWorker, drain};
use jobs::contract::Settings;
use jobs::mail::{Links, Mailer, MailerConfig, Security, Sender, SmtpServer, Transport};
use polar_jobs::worker::WorkerSettings;
use serde_json::{Value, json};
use simulator::records::OrderRecord;
use simulator::{Options, Product};
use uuid::Uuid;

use crate::mail_server::MailServer;

pub(crate) use installation::{DEADLINE, PLATFORM};

const QUEUES: [(&str, usize); 4] = [("default", 10), ("mail", 4), ("bulk", 2), ("support", 2)];

/// Who gets mail about an organization of these tests, sorted.
pub(crate) const CONTACTS: [&str; 2] = ["admin@example.com", "owner@example.com"];

pub(crate) struct TestApp {
    installation: Installation,
    pub(crate) mail_server: MailServer,
    mailer: Option<Mailer>,
}

impl Deref for TestApp {
    type Target = Installation;

    fn deref(&self) -> &Installation {
        &self.installation
    }
}

/// A row of `mails`.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub(crate) struct MailRow {
    pub(crate) template: String,
    pub(crate) recipient: String,
    pub(crate) state: String,
    pub(crate) attempts: i32,
    pub(crate) message_id: Option<String>,
    pub(crate) error: Option<String>,
}

/// Polar whose invoices are made at once, and whose orders are this old.
pub(crate) fn polar_of(age: TimeDelta) -> Options {
    Options {
        now: Some(Utc::now() - age),
        invoice_delay: Duration::ZERO,
        ..Options::default()
    }
}

/// Polar whose invoices are made at once.
pub(crate) fn polar() -> Options {
    Options {
        invoice_delay: Duration::ZERO,
        ..Options::default()
    }
}

/// Polar that makes an invoice only when its clock is moved.
pub(crate) fn polar_with_slow_invoices() -> Options {
    Options {
        invoice_delay: Duration::from_secs(3600),
        ..Options::default()
    }
}

impl MailRow {
    /// Whether nothing was tried that counts.
    pub(crate) fn waits_untried(&self) -> bool {
        self.state == "waiting" && self.attempts == 0
    }
}

impl TestApp {
    /// With mail to the mail server.
    pub(crate) async fn open(options: Options) -> Self {
        Self::open_with(options, Security::Opportunistic).await
    }

    pub(crate) async fn open_with(options: Options, security: Security) -> Self {
        let mut app = Self::without_mail(options).await;
        app.connect(security);
        app
    }

    /// Workers that start from now on know the mail server, and nothing of what it did before.
    pub(crate) fn connect(&mut self, security: Security) {
        self.mailer = Some(Mailer::new(MailerConfig {
            transport: Transport::Smtp(SmtpServer {
                host: "127.0.0.1".to_owned(),
                port: self.mail_server.port(),
                security,
                credentials: Some(("me".to_owned(), "secret".into())),
            }),
            from: Sender::parse("Acme Billing <billing@example.com>").unwrap(),
            reply_to: Sender::parse("help@example.com"),
            links: Links {
                billing: Some("https://app.example.com/billing".to_owned()),
            },
        }));
    }

    pub(crate) async fn without_mail(options: Options) -> Self {
        Self {
            installation: Installation::open(options).await,
            mail_server: MailServer::start().await,
            mailer: None,
        }
    }

    /// An organization with somebody in every role, known at Polar.
    pub(crate) async fn organization(&self) -> String {
        let [id] = self.organizations().await;
        id
    }

    /// Several of them.
    pub(crate) async fn organizations<const COUNT: usize>(&self) -> [String; COUNT] {
        let ids = [(); COUNT].map(|()| Uuid::new_v4().to_string());
        let changes: Vec<Value> = ids.iter().flat_map(|id| founded(id)).collect();
        self.tell(&changes).await;
        self.finish().await;
        ids
    }

    /// The id of a discount after which nothing is left to pay.
    pub(crate) async fn full_discount(&self) -> Value {
        let discount = json!({
            "name": "All of it", "type": "percentage", "basis_points": 10_000, "duration": "forever",
        });
        let made = self.at_polar("POST", "/v1/discounts/", Some(&discount));
        made.await["id"].clone()
    }

    /// The newest order of an organization.
    pub(crate) fn order(&self, organization: &str) -> OrderRecord {
        self.simulator.orders(organization).pop().unwrap()
    }

    /// An organization that bought a plan; mails about that are due.
    pub(crate) async fn purchase(&self) -> String {
        let id = self.organization().await;
        self.simulator.purchase(&id, Product::Pro).await.unwrap();
        id
    }

    /// A delivery about an order of an organization.
    pub(crate) async fn deliver_order(&self, event_type: &str, organization: &str, order: Uuid) {
        let customer = self.simulator.customer(organization).unwrap();
        let data = json!({"id": order, "customer_id": customer.id, "net_amount": 2000,
            "is_invoice_generated": true, "customer": {"id": customer.id, "external_id": organization}});
        self.deliver(event_type, &data).await;
    }

    fn worker(&self) -> WorkerSettings {
        let mut worker = self.installation.worker(&QUEUES);
        worker.mail.clone_from(&self.mailer);
        worker.settings = Arc::new(Settings {
            webhook_events: polar_jobs::ingress::required_events(true),
            ..Settings::clone(&worker.settings)
        });
        worker
    }

    /// A worker that goes on until it is stopped.
    pub(crate) fn work(&self) -> RunningWorker {
        RunningWorker::start(self.worker())
    }

    /// Runs what is runnable and lets deliveries come in until both are quiet.
    pub(crate) async fn work_until_idle(&self) {
        loop {
            drain(self.worker()).await;
            self.deliveries_end().await;
            let runnable = "SELECT count(*) FROM polar_jobs.live_jobs WHERE run_at <= now()";
            if self.count(runnable).await == 0 {
                return;
            }
        }
    }

    /// Lets every waiting job run now, as if its time had come; once.
    pub(crate) async fn look_again(&self) {
        self.look_once().await;
        self.work_until_idle().await;
    }

    /// The same without waiting for what comes of it.
    pub(crate) async fn look_once(&self) {
        let hurried = "UPDATE polar_jobs.live_jobs SET run_at = now() WHERE worker IS NULL";
        sqlx::query(hurried).execute(&self.pool).await.unwrap();
        drain(self.worker()).await;
    }

    /// The same until nothing waits.
    pub(crate) async fn finish(&self) {
        for _round in 0..30 {
            self.work_until_idle().await;
            if self
                .count("SELECT count(*) FROM polar_jobs.live_jobs")
                .await
                == 0
            {
                return;
            }
            self.look_again().await;
        }
        panic!("jobs still wait: {:?}", self.notes().await);
    }

    /// All mails, by recipient, then in the order in which they were asked for.
    pub(crate) async fn mails(&self) -> Vec<MailRow> {
        sqlx::query_as(
            "SELECT template, recipient, state, attempts, message_id, error FROM polar_jobs.mails
              ORDER BY recipient, created_at, template",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap()
    }
}

/// The changes that tell of an organization and its people.
fn founded(id: &str) -> [Value; 4] {
    let added = |role: &str| {
        json!({"type": "member.added", "data": {"organization_id": id, "role": role,
            "user": {"id": Uuid::new_v4(), "email": format!("{role}@example.com"), "name": role}}})
    };
    [
        json!({"type": "organization.created", "data": {"id": id, "name": "Acme", "slug": "acme",
            "owner": {"id": Uuid::new_v4(), "email": "owner@example.com", "name": "Olga Owner"}}}),
        added("admin"),
        added("finance"),
        added("member"),
    ]
}
