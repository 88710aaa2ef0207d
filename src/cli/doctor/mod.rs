//! `polar-jobs doctor`: what is wrong here, and what to do about it.

mod application;
mod connections;
mod database;
mod failing;
mod fleet;
mod in_step;
mod mail;
mod polar;
mod scopes;
mod settings;
mod support_desk;
mod usage;

use clap::Args;
use serde::Serialize;

use super::output::{self, Format};
use super::{AppContext, Exit, Failure};
use crate::config::ConfigError;
use crate::telemetry::Masker;

/// Arguments of `doctor`.
#[derive(Args)]
pub(super) struct Arguments {
    /// Lines for people, or one JSON array
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    Warning,
    Error,
}

/// One line of the report.
#[derive(Debug, Serialize)]
struct Finding {
    level: Level,
    about: &'static str,
    what: String,
    fix: Option<String>,
}

impl Finding {
    fn ok(about: &'static str, what: impl Into<String>) -> Self {
        Self {
            level: Level::Ok,
            about,
            what: what.into(),
            fix: None,
        }
    }

    fn warning(about: &'static str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            level: Level::Warning,
            about,
            what: what.into(),
            fix: Some(fix.into()),
        }
    }

    fn error(about: &'static str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            level: Level::Error,
            about,
            what: what.into(),
            fix: Some(fix.into()),
        }
    }

    fn line(&self) -> String {
        let level = match self.level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        let fix = self
            .fix
            .as_deref()
            .map(|fix| format!(" -> {fix}"))
            .unwrap_or_default();
        output::flat(&format!("{level:<8} {:<16} {}{fix}", self.about, self.what))
    }
}

pub(super) async fn run(arguments: Arguments, app: &AppContext) -> Result<Exit, Failure> {
    let config = &app.config;
    let mut findings = settings::check(config);
    findings.extend(mail::check(config).await);
    let (found, pool) = database::check(config).await;
    findings.extend(found);
    if let Some(pool) = &pool {
        findings.extend(fleet::check(pool, config).await);
    }
    findings.extend(polar::check(config, pool).await);
    findings.extend(support_desk::check(config).await);
    report(&arguments, &findings, &app.masker)
}

/// Settings that cannot even be read, said in the form of this command.
pub(super) fn report_wrong_settings(
    arguments: &Arguments,
    wrong: &ConfigError,
) -> Result<Exit, Failure> {
    let what = format!("{} {}", wrong.variable, wrong.what);
    let finding = Finding::error("settings", what, format!("allowed: {}", wrong.allowed));
    report(arguments, &[finding], &Masker::default())
}

/// Prints the findings. The exit code is that of the worst one.
fn report(arguments: &Arguments, findings: &[Finding], masker: &Masker) -> Result<Exit, Failure> {
    match arguments.format {
        Format::Json => output::line(&masker.mask(&serde_json::to_string(findings)?))?,
        Format::Table => {
            for finding in findings {
                output::line(&masker.mask(&finding.line()))?;
            }
        }
    }
    let worst = findings.iter().map(|finding| finding.level).max();
    Ok(match worst.unwrap_or(Level::Ok) {
        Level::Ok => Exit::Done,
        Level::Warning => Exit::WarningsOnly,
        Level::Error => Exit::ChecksFailed,
    })
}
