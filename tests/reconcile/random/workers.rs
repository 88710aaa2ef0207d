//! Two worker processes, killed as machines kill them, and the mail server that they share.

use std::process::{Child, Command, Stdio};

use crate::command::command;
use crate::mail_server::{MailServer, Received};
use crate::test_app::TestApp;

pub(super) struct Workers {
    children: Vec<Child>,
    mail_server: MailServer,
    kills: u32,
}

impl Drop for Workers {
    fn drop(&mut self) {
        for child in &mut self.children {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

impl Workers {
    pub(super) async fn start(app: &TestApp) -> Self {
        let mut workers = Self {
            children: Vec::new(),
            mail_server: MailServer::start().await,
            kills: 0,
        };
        workers.replace(app);
        workers
    }

    /// SIGTERM to whoever lives, and two new ones once those are gone.
    pub(super) fn replace(&mut self, app: &TestApp) {
        for child in &self.children {
            let mut kill = Command::new("kill");
            assert!(kill.arg(child.id().to_string()).status().unwrap().success());
        }
        for mut child in self.children.drain(..) {
            // One that was only just started knows no signal yet, and dies of it.
            child.wait().unwrap();
        }
        self.children = (0..2)
            .map(|_| self.command(app, &["worker"]).spawn().unwrap())
            .collect();
    }

    /// SIGKILL to one of them; another one starts.
    pub(super) fn kill_one(&mut self, app: &TestApp) {
        let mut killed = self.children.remove(0);
        killed.kill().unwrap();
        killed.wait().unwrap();
        self.kills += 1;
        let next = self.command(app, &["worker"]).spawn().unwrap();
        self.children.push(next);
    }

    /// SIGKILL to all of them.
    pub(super) fn kill_all(&mut self) {
        for mut child in self.children.drain(..) {
            child.kill().unwrap();
            child.wait().unwrap();
            self.kills += 1;
        }
    }

    pub(super) fn kills(&self) -> u32 {
        self.kills
    }

    /// What the mail server got from them.
    pub(super) fn received(&self) -> Vec<Received> {
        self.mail_server.received()
    }

    /// Runs what is runnable, to its end.
    pub(super) async fn drain(&self, app: &TestApp) {
        let mut drained = self.command(app, &["worker", "--drain"]);
        let ended = tokio::task::spawn_blocking(move || drained.status());
        assert!(ended.await.unwrap().unwrap().success());
    }

    fn command(&self, app: &TestApp, arguments: &[&str]) -> Command {
        let mut command = command(app, arguments);
        command
            .env(
                "MAIL_URL",
                format!("smtp://127.0.0.1:{}", self.mail_server.port()),
            )
            .env("MAIL_FROM", "billing@example.com")
            .env("WORKER_SLOTS", "10")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }
}
