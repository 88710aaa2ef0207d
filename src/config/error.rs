//! A setting that cannot be used.

use std::borrow::Cow;

const NOT_SET: &str = "is not set";

/// Why start-up stops: one line, without the value, which may be a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable} {what}; allowed: {allowed}")]
pub struct ConfigError {
    /// The environment variable.
    pub variable: &'static str,
    /// What is wrong with its value, without the value.
    pub what: Cow<'static, str>,
    /// What would be right.
    pub allowed: Cow<'static, str>,
}

impl ConfigError {
    /// A value that is not allowed.
    pub(crate) fn new(
        variable: &'static str,
        what: impl Into<Cow<'static, str>>,
        allowed: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            variable,
            what: what.into(),
            allowed: allowed.into(),
        }
    }

    /// A variable that this command cannot do without.
    pub(crate) fn missing(variable: &'static str, allowed: impl Into<Cow<'static, str>>) -> Self {
        Self::new(variable, NOT_SET, allowed)
    }

    /// Whether all that is wrong is that the variable is not set.
    pub(crate) fn is_missing(&self) -> bool {
        self.what == NOT_SET
    }
}
