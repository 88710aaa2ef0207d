//! `.env` of the working directory, and `dev.env`, which `dev` writes for other shells.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use sqlx::PgPool;

use super::support::{Said, command, ended, line_with, said, signal, start, until};
use crate::wait::output_of;

/// Runs the binary in a directory.
fn run_in(directory: &Path, settings: &[(&str, &str)], arguments: &[&str]) -> Said {
    let child = command(settings, arguments)
        .current_dir(directory)
        .spawn()
        .unwrap();
    said(output_of(child, &format!("{arguments:?}")))
}

#[test]
fn every_command_reads_dotenv_of_the_working_directory_and_real_variables_win() {
    let directory = tempfile::tempdir().unwrap();
    let nowhere = "DATABASE_URL='postgres://somebody@127.0.0.1:1/nothing'\nPORT=http\n";
    fs::write(directory.path().join(".env"), nowhere).unwrap();
    let wrong = run_in(directory.path(), &[], &["jobs", "list"]);
    assert_eq!(wrong.code, Some(2));
    assert!(
        wrong.err.contains("PORT is not a whole number"),
        "{}",
        wrong.err
    );

    let right = run_in(directory.path(), &[("PORT", "8080")], &["jobs", "list"]);
    assert_eq!(right.code, Some(1));
    assert!(right.err.contains("127.0.0.1:1"), "{}", right.err);

    // Set to nothing is set.
    let settings = [("PORT", "8080"), ("DATABASE_URL", "")];
    let none = run_in(directory.path(), &settings, &["jobs", "list"]);
    assert!(none.err.contains("DATABASE_URL is not set"), "{}", none.err);
}

#[test]
fn a_command_without_a_database_names_the_file_that_dev_wrote_where_there_is_one() {
    let directory = tempfile::tempdir().unwrap();
    let none = run_in(directory.path(), &[], &["jobs", "list"]);
    assert_eq!(none.code, Some(2));
    assert!(!none.err.contains("dev.env"), "{}", none.err);
    fs::create_dir(directory.path().join("var")).unwrap();
    let file = directory.path().join("var/dev.env");
    for (written, helps) in [("APP_TOKEN='a'\n", false), ("DATABASE_URL='a'\n", true)] {
        fs::write(&file, written).unwrap();
        let said = run_in(directory.path(), &[], &["jobs", "list"]);
        assert_eq!(said.code, Some(2));
        let command = "set -a; . ./var/dev.env; set +a";
        assert_eq!(said.err.contains(command), helps, "{}", said.err);
    }
}

#[test]
fn a_dotenv_that_is_not_understood_is_one_line_without_its_content() {
    let directory = tempfile::tempdir().unwrap();
    let text = "PORT=8080\nAPP_TOKEN=very secret words\n";
    fs::write(directory.path().join(".env"), text).unwrap();
    let refused = run_in(directory.path(), &[], &["migrate"]);
    assert_eq!(refused.code, Some(2));
    assert_eq!(refused.err.trim().lines().count(), 1, "{}", refused.err);
    assert!(
        refused.err.contains(".env is not understood at line 2"),
        "{}",
        refused.err
    );
    assert!(!refused.err.contains("secret"), "{}", refused.err);
}

/// Runs the binary in a shell that has read `dev.env`, and has no other settings.
fn after_reading(file: &Path, arguments: &[&str]) -> Said {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", r#"set -a; . "$0"; set +a; exec "$@""#])
        .arg(file)
        .arg(env!("CARGO_BIN_EXE_polar-jobs"))
        .args(arguments)
        .current_dir(env!("CARGO_TARGET_TMPDIR"))
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    for kept in ["PATH", "HOME", "POSTGRES_BIN", "XDG_CACHE_HOME"] {
        if let Some(value) = std::env::var_os(kept) {
            shell.env(kept, value);
        }
    }
    said(output_of(shell.spawn().unwrap(), &format!("{arguments:?}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn another_shell_works_with_what_dev_brought_after_reading_dev_env() {
    // A blank and a quote in the path: nothing of the file may mean anything to the shell.
    let data = tempfile::tempdir().unwrap();
    let data = data.path().join("what's it");
    let directory = data.to_str().unwrap();
    let arguments = ["dev", "--port", "0", "--data-dir", directory];
    let mut dev = start(&[], &arguments);
    line_with(dev.stdout.take().unwrap(), "Everything stays open");
    let file = data.join("dev.env");

    let jobs = after_reading(&file, &["jobs", "list", "--kind", "sync_customer"]);
    assert_eq!(jobs.code, Some(0), "{}", jobs.err);
    assert!(jobs.out.contains("completed"), "{}", jobs.out);
    let state = after_reading(&file, &["simulator", "state", "--format", "json"]);
    let state: Value = serde_json::from_str(&state.out).unwrap();
    let umbrella = state["customers"].as_array().unwrap().iter();
    let mut umbrella = umbrella.filter(|customer| customer["name"] == "Umbrella");
    let umbrella = umbrella.next().unwrap()["external_id"].as_str().unwrap();

    let bought = [
        "simulator",
        "trigger",
        "purchase",
        "--product",
        "scale",
        "--organization",
        umbrella,
    ];
    let bought = after_reading(&file, &bought);
    assert_eq!(bought.code, Some(0), "{}", bought.err);
    let url = setting(&file, "DATABASE_URL");
    let pool = PgPool::connect(&url).await.unwrap();
    until(async || plan(&pool, umbrella).await == "Scale").await;
    pool.close().await;

    // The process whose settings these were has ended, and the next one does not look for it.
    signal(&dev, "TERM");
    assert_eq!(ended(&mut dev), Some(Some(0)));
    let again = ["dev", "--once", "--port", "0", "--data-dir", directory];
    let again = after_reading(&file, &again);
    assert_eq!(again.code, Some(0), "{}\n{}", again.out, again.err);
}

#[test]
fn dev_copies_no_setting_that_it_was_given_into_its_file() {
    let data = tempfile::tempdir().unwrap();
    let directory = data.path().to_str().unwrap();
    let arguments = ["dev", "--port", "0", "--data-dir", directory];
    let mut dev = start(&[("APP_TOKEN", "a-token-of-the-application")], &arguments);
    line_with(dev.stdout.take().unwrap(), "settings ");
    let written = fs::read_to_string(data.path().join("dev.env")).unwrap();
    assert!(written.contains("DATABASE_URL="), "{written}");
    assert!(
        written.contains(&format!("POLAR_JOBS_DEV='{directory}'")),
        "whose they are: {written}"
    );
    assert!(!written.contains("APP_TOKEN"), "{written}");
    signal(&dev, "TERM");
    assert_eq!(ended(&mut dev), Some(Some(0)));
}

async fn plan(pool: &PgPool, organization: &str) -> String {
    sqlx::query_scalar(
        "SELECT plan FROM polar_jobs.entitlements WHERE organization_id = $1::text::uuid",
    )
    .bind(organization)
    .fetch_one(pool)
    .await
    .unwrap()
}

fn setting(file: &Path, name: &str) -> String {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", r#". "$0"; eval "printf %s \"\$$1\"""#])
        .arg(file)
        .arg(name);
    String::from_utf8(shell.output().unwrap().stdout).unwrap()
}
