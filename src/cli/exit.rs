//! How a command ends.

use std::process::ExitCode;

use sqlx::migrate::MigrateError;

use super::dev;
use crate::config::ConfigError;
use crate::sqlstate::is_permission_missing;
use crate::telemetry::{self, Masker};

/// An end that needs no explanation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0.
    Done,
    /// 1: the command did its work and what it found is not right; it has said so.
    ChecksFailed,
    /// 3: nothing that it checked is wrong, but something deserves a look.
    WarningsOnly,
}

impl Exit {
    pub(crate) fn code(self) -> ExitCode {
        match self {
            Self::Done => ExitCode::SUCCESS,
            Self::ChecksFailed => ExitCode::from(1),
            Self::WarningsOnly => ExitCode::from(3),
        }
    }
}

/// An end that is explained in one line.
#[derive(Debug)]
pub(crate) enum Failure {
    /// 2: arguments or settings that cannot be used.
    Usage(String),
    /// 1: the work failed.
    Failed(anyhow::Error),
}

impl Failure {
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self::Usage(what.into())
    }

    pub(crate) fn failed(what: impl Into<String>) -> Self {
        Self::Failed(anyhow::Error::msg(what.into()))
    }

    /// Prints the line and gives the code.
    pub(crate) fn report(&self, masker: &Masker) -> ExitCode {
        let (code, text) = match self {
            Self::Usage(what) => (2, what.clone()),
            Self::Failed(error) => (1, causes(error)),
        };
        telemetry::say(&format!("polar-jobs: {}", masker.mask(&one_line(&text))));
        ExitCode::from(code)
    }
}

/// What to do about a right that is missing.
const RIGHT_MISSING: &str = ": run this as the owner of the schema polar_jobs, or let its owner grant that to the role of DATABASE_URL";

/// The causes, outermost first, each said once: many errors repeat their source in their own words.
pub(crate) fn causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        // Below is the same again, with the line of Postgres's own source, which tells nobody anything.
        if let Some(error @ sqlx::Error::Database(refusal)) = cause.downcast_ref() {
            add(&mut text, refusal.message());
            if is_permission_missing(error) {
                text.push_str(RIGHT_MISSING);
            }
            break;
        }
        match cause.downcast_ref() {
            // Says again what its source says.
            Some(MigrateError::Execute(_)) => {}
            Some(MigrateError::ExecuteMigration(_, version)) => {
                add(&mut text, &format!("migration {version}"));
            }
            Some(MigrateError::VersionMissing(version)) => add(
                &mut text,
                &format!(
                    "the database has migration {version}, which this release does not know: install the newer release"
                ),
            ),
            _ => add(&mut text, &cause.to_string()),
        }
    }
    text
}

fn add(text: &mut String, cause: &str) {
    if text.contains(cause) {
        return;
    }
    if !text.is_empty() {
        text.push_str(": ");
    }
    text.push_str(cause);
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl From<ConfigError> for Failure {
    fn from(wrong: ConfigError) -> Self {
        match dev::settings_for(&wrong) {
            Some(command) => Self::Usage(format!("{wrong}; here `dev` has written one: {command}")),
            None => Self::Usage(wrong.to_string()),
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure
where
    E: NotASetting,
{
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Everything that may fail but [`ConfigError`], which is wrong usage.
pub(crate) trait NotASetting {}

impl NotASetting for anyhow::Error {}
impl NotASetting for std::io::Error {}
impl NotASetting for sqlx::Error {}
impl NotASetting for sqlx::migrate::MigrateError {}
impl NotASetting for serde_json::Error {}
