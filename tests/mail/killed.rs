//! A worker that is killed after the mail server took a mail and before that is written down.

use std::process::{Child, Command, Stdio};

use simulator::Product;

use crate::mail_server::Behaviour;
use crate::test_app::{CONTACTS, TestApp, polar};

/// The binary as a worker; killed when dropped.
struct Worker(Child);

impl Worker {
    fn start(app: &TestApp) -> Self {
        let mail = format!("smtp://127.0.0.1:{}", app.mail_server.port());
        let child = Command::new(env!("CARGO_BIN_EXE_polar-jobs"))
            .arg("worker")
            .env_clear()
            .env("DATABASE_URL", &app.url)
            .env("POLAR_API_URL", app.simulator.url())
            .env("POLAR_ACCESS_TOKEN", app.simulator.access_token())
            .env(
                "POLAR_ORGANIZATION_ID",
                app.simulator.organization_id().to_string(),
            )
            .env("MAIL_URL", mail)
            .env("MAIL_FROM", "billing@example.com")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    /// SIGKILL.
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test]
async fn a_kill_between_the_servers_acceptance_and_our_commit_repeats_the_same_message_once() {
    let app = TestApp::open(polar()).await;
    let acme = app.organization().await;
    app.mail_server.behave(Behaviour::KeepAnswer);
    let first = Worker::start(&app);
    app.simulator.purchase(&acme, Product::Pro).await.unwrap();
    app.mail_server.receives(CONTACTS.len()).await;
    first.kill();
    assert!(
        app.mails()
            .await
            .iter()
            .all(|mail| mail.state == "waiting" && mail.attempts == 1)
    );
    app.mail_server.behave(Behaviour::Accept);
    let _second = Worker::start(&app);
    app.until("the mails are sent", async || {
        app.mails().await.iter().all(|mail| mail.state == "sent")
    })
    .await;
    let received = app.mail_server.received();
    for mail in app.mails().await {
        assert_eq!(mail.attempts, 2);
        let copies: Vec<_> = received
            .iter()
            .filter(|copy| copy.to == mail.recipient)
            .collect();
        assert_eq!(copies.len(), 2, "the one without an answer, and one more");
        assert_eq!(copies[0].bytes, copies[1].bytes);
        let id = mail.message_id.unwrap();
        assert_eq!(id.trim_matches(['<', '>']), copies[0].message_id());
    }
}
