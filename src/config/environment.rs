//! The variables as text, before they mean anything.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::Path;
use std::str::FromStr;

use reqwest::Url;

use super::{ConfigError, dotenv};

/// Variables and their values. An empty value is the same as none, so that a line of `.env` may
/// stay empty.
#[derive(Default)]
pub struct Environment(BTreeMap<String, OsString>);

impl Environment {
    /// The variables of this process.
    #[must_use]
    pub fn of_process() -> Self {
        std::env::vars_os().collect()
    }

    /// The variables that a file in the form of `.env` sets; none where there is no such file.
    ///
    /// # Errors
    /// When the file cannot be read, or has a line that is no setting.
    pub fn of_file(path: &Path) -> Result<Self, ConfigError> {
        dotenv::read(path)
    }

    /// The same, and from `other` what is not set here. A variable that is set here to nothing stays so.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        for (name, value) in other.0 {
            self.0.entry(name).or_insert(value);
        }
        self
    }

    /// The same without the variables that have just this value in `other`.
    #[must_use]
    pub fn without(mut self, other: &Self) -> Self {
        self.0
            .retain(|name, value| other.0.get(name) != Some(value));
        self
    }

    /// The value of a variable, without the white space around it; `None` where it is empty.
    pub(crate) fn text(&self, variable: &'static str) -> Result<Option<&str>, ConfigError> {
        let Some(value) = self.0.get(variable) else {
            return Ok(None);
        };
        let text = value
            .to_str()
            .ok_or_else(|| ConfigError::new(variable, "is not UTF-8 text", "UTF-8 text"))?
            .trim();
        Ok(Some(text).filter(|text| !text.is_empty()))
    }

    /// A whole number within bounds.
    pub(crate) fn whole_number<N>(
        &self,
        variable: &'static str,
        default: N,
        bounds: RangeInclusive<N>,
    ) -> Result<N, ConfigError>
    where
        N: FromStr + PartialOrd + Display,
    {
        let Some(text) = self.text(variable)? else {
            return Ok(default);
        };
        let allowed = || format!("{} to {}", bounds.start(), bounds.end());
        match text.parse() {
            Ok(number) if bounds.contains(&number) => Ok(number),
            Ok(_) => Err(ConfigError::new(variable, "is out of range", allowed())),
            Err(_) => Err(ConfigError::new(
                variable,
                "is not a whole number in range",
                allowed(),
            )),
        }
    }

    /// An `http` or `https` address without credentials; `None` where it is not set. `example` is what the error shows.
    pub(crate) fn web_address(
        &self,
        variable: &'static str,
        example: &str,
    ) -> Result<Option<Url>, ConfigError> {
        let Some(text) = self.text(variable)? else {
            return Ok(None);
        };
        let url = Url::parse(text).ok().filter(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.username().is_empty()
                && url.password().is_none()
                && url.query().is_none()
                && url.fragment().is_none()
        });
        let url = url.ok_or_else(|| {
            ConfigError::new(
                variable,
                "is not a plain web address",
                format!("https://… as in {example}"),
            )
        })?;
        Ok(Some(url))
    }

    /// The same with a default, which is the example too.
    pub(crate) fn web_address_or(
        &self,
        variable: &'static str,
        default: &str,
    ) -> Result<Url, ConfigError> {
        let url = self.web_address(variable, default)?;
        Ok(url.unwrap_or_else(|| default.parse().expect("the default is an address")))
    }
}

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    /// A name that is not UTF-8 is none of ours and is left out.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        let named = |(name, value): (K, V)| Some((name.into().into_string().ok()?, value.into()));
        Self(variables.into_iter().filter_map(named).collect())
    }
}
