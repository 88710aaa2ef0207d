//! `polar-jobs doctor`: what is wrong here, and what to do about it.

mod database;
mod house;
mod polar;
mod settings;

use super::{Exit, Failure, Surroundings, output};

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Ok,
    Warning,
    Error,
}

/// One line of the report.
#[derive(Debug)]
struct Finding {
    level: Level,
    about: &'static str,
    what: String,
    cure: Option<String>,
}

impl Finding {
    fn ok(about: &'static str, what: impl Into<String>) -> Self {
        Self {
            level: Level::Ok,
            about,
            what: what.into(),
            cure: None,
        }
    }

    fn warning(about: &'static str, what: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            level: Level::Warning,
            about,
            what: what.into(),
            cure: Some(cure.into()),
        }
    }

    fn error(about: &'static str, what: impl Into<String>, cure: impl Into<String>) -> Self {
        Self {
            level: Level::Error,
            about,
            what: what.into(),
            cure: Some(cure.into()),
        }
    }

    fn line(&self) -> String {
        let level = match self.level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        let cure = self
            .cure
            .as_deref()
            .map(|cure| format!(" -> {cure}"))
            .unwrap_or_default();
        format!("{level:<8} {:<16} {}{cure}", self.about, self.what)
    }
}

pub(super) async fn run(surroundings: &Surroundings) -> Result<Exit, Failure> {
    let mut findings = settings::check(&surroundings.config);
    if let Some(pool) = database::check(&surroundings.config, &mut findings).await {
        house::check(&pool, &mut findings).await;
    }
    polar::check(&surroundings.config.polar, &mut findings).await;
    for finding in &findings {
        output::line(&surroundings.masker.mask(&finding.line()))?;
    }
    let sick = findings.iter().any(|finding| finding.level == Level::Error);
    Ok(if sick { Exit::NotRight } else { Exit::Done })
}

/// Settings that cannot even be read, said in the form of this command.
pub(super) fn report_wrong_settings(wrong: &crate::config::Wrong) -> Result<Exit, Failure> {
    let what = format!("{} {}", wrong.variable, wrong.what);
    output::line(&Finding::error("settings", what, format!("allowed: {}", wrong.allowed)).line())?;
    Ok(Exit::NotRight)
}
