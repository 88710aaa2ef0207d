//! How and how much is logged.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use super::{ConfigError, Environment};

/// What Postgres remarks by the way ("already exists, skipping") is no news.
const DEFAULT: &str = "info,sqlx::postgres::notice=warn";

/// How and how much is logged.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// Lines for people or for machines.
    pub format: LogFormat,
    /// The directives of `RUST_LOG`, checked.
    pub filter: String,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object per line.
    Json,
}

pub(super) fn read(environment: &Environment) -> Result<LogSettings, ConfigError> {
    let format = match environment.text("LOG_FORMAT")? {
        Some("text") => LogFormat::Text,
        Some("json") => LogFormat::Json,
        None if std::io::stderr().is_terminal() => LogFormat::Text,
        None => LogFormat::Json,
        Some(_) => return Err(ConfigError::new("LOG_FORMAT", "is not known", "text, json")),
    };
    let filter = environment.text("RUST_LOG")?.unwrap_or(DEFAULT);
    if EnvFilter::try_new(filter).is_err() {
        let allowed =
            "a level (error, warn, info, debug, trace) or directives such as info,polar_jobs=debug";
        return Err(ConfigError::new(
            "RUST_LOG",
            "holds a directive that cannot be read",
            allowed,
        ));
    }
    Ok(LogSettings {
        format,
        filter: filter.to_owned(),
    })
}
