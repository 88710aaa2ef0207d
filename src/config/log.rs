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
    check(filter)?;
    Ok(LogSettings {
        format,
        filter: filter.to_owned(),
    })
}

/// A word that is no level is taken for the name of a module, and then nothing else is logged: a level that
/// was misspelt must not do that.
fn check(filter: &str) -> Result<(), ConfigError> {
    const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
    let wrong = |what: String| {
        let allowed = "a level (error, warn, info, debug, trace, off) or directives such as info,polar_jobs=debug";
        ConfigError::new("RUST_LOG", what, allowed)
    };
    if EnvFilter::try_new(filter).is_err() {
        return Err(wrong("holds a directive that cannot be read".to_owned()));
    }
    for word in filter.split(',').map(|word| word.trim().to_lowercase()) {
        let near = |level: &&&str| strsim::osa_distance(&word, level) <= 1;
        if !LEVELS.contains(&word.as_str())
            && let Some(level) = LEVELS.iter().find(near)
        {
            return Err(wrong(format!(
                "holds a word that is no level: did you mean {level}?"
            )));
        }
    }
    Ok(())
}
