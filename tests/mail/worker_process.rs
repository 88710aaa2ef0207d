//! The binary as a worker.

use std::process::{Child, Command, Stdio};

use crate::test_app::TestApp;

/// Killed when dropped.
pub(crate) struct WorkerProcess(Child);

impl WorkerProcess {
    /// One that sends mail to this server, and has these variables besides.
    pub(crate) fn start(app: &TestApp, mail_url: &str, variables: &[(&str, &str)]) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_polar-jobs"))
            .arg("worker")
            .env_clear()
            .envs(app.environment())
            .env("MAIL_URL", mail_url)
            .env("MAIL_FROM", "billing@example.com")
            .envs(variables.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
