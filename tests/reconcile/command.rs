//! The binary with the settings of a test.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::test_app::TestApp;

/// What a command said and how it ended.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// `polar-jobs` with the settings of a test.
pub(crate) fn command(app: &TestApp, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_polar-jobs"));
    command
        .args(arguments)
        .env_clear()
        .env("DATABASE_URL", &app.url)
        .env("POLAR_ACCESS_TOKEN", app.simulator.access_token())
        .env(
            "POLAR_ORGANIZATION_ID",
            app.simulator.organization_id().to_string(),
        )
        .env("POLAR_API_URL", app.simulator.url())
        .env("POLAR_RATE_LIMIT", "60000")
        .stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub(crate) async fn run(app: &TestApp, arguments: &[&str]) -> Said {
    let mut command = command(app, arguments);
    let ended = tokio::task::spawn_blocking(move || command.output());
    let output = ended.await.unwrap().unwrap();
    Said {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs it with `--format json`; its exit code and its answer.
pub(crate) async fn json(app: &TestApp, arguments: &[&str]) -> (i32, Value) {
    let said = run(app, &[arguments, &["--format", "json"]].concat()).await;
    let answer =
        serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{}{}", said.out, said.err));
    (said.code, answer)
}
