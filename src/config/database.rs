//! Where the jobs are kept.

use std::fmt;
use std::str::FromStr;

use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::PgConnectOptions;

use super::{ConfigError, Environment};
use crate::queue::connect::{ConnectionBudget, Pooler};

/// What `DATABASE_URL` may look like.
pub(super) const ALLOWED: &str = "postgres://user:password@host:port/database?sslmode=…";

/// `DATABASE_URL`, checked. Shown without user and password.
#[derive(Clone)]
pub struct DatabaseUrl {
    url: SecretString,
    options: PgConnectOptions,
    pooler: Pooler,
}

impl DatabaseUrl {
    /// Checks a URL.
    ///
    /// # Errors
    /// In words, never with a part of the URL.
    pub fn parse(url: &str, pooler: Pooler) -> Result<Self, &'static str> {
        let parsed = Url::parse(url).map_err(|_| "is not a URL")?;
        if !matches!(parsed.scheme(), "postgres" | "postgresql") {
            return Err("does not begin with postgres:// or postgresql://");
        }
        let options = PgConnectOptions::from_str(url)
            .map_err(|_| "cannot be understood as a Postgres URL")?;
        let options = options.application_name("polar-jobs");
        // Poolers refuse start-up parameters that they do not know.
        let options = match pooler {
            Pooler::None => options,
            Pooler::Transaction => options.extra_float_digits(None),
        };
        Ok(Self {
            url: SecretString::from(url),
            options,
            pooler,
        })
    }

    /// The URL as it was set, password included: for opening connections only.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.url.expose_secret()
    }

    /// How connections are opened.
    #[must_use]
    pub fn options(&self) -> PgConnectOptions {
        self.options.clone()
    }

    /// What stands between us and Postgres.
    #[must_use]
    pub fn pooler(&self) -> Pooler {
        self.pooler
    }

    /// The same server and settings, another database.
    #[must_use]
    pub fn with_database(&self, name: &str) -> Self {
        let mut url =
            Url::parse(self.expose()).expect("the URL was parsed when this value was made");
        url.set_path(name);
        let kept: Vec<(String, String)> = url
            .query_pairs()
            .into_owned()
            .filter(|(key, _)| key != "dbname")
            .collect();
        url.set_query(None);
        if !kept.is_empty() {
            url.query_pairs_mut().extend_pairs(kept);
        }
        Self {
            url: SecretString::from(url.as_str()),
            options: self.options.clone().database(name),
            pooler: self.pooler,
        }
    }

    /// The password, as it stands in the URL and as Postgres knows it.
    pub(super) fn passwords(&self) -> Vec<SecretString> {
        let url = Url::parse(self.expose()).expect("the URL was parsed when this value was made");
        let in_query = url
            .query_pairs()
            .filter(|(key, _)| key == "password")
            .map(|(_, value)| value.into_owned());
        let raw = url.password().map(str::to_owned);
        let decoded = raw.as_deref().and_then(percent_decoded);
        raw.into_iter()
            .chain(decoded)
            .chain(in_query)
            .map(SecretString::from)
            .collect()
    }
}

/// Percent-decoding by the same library that reads the query of a URL.
pub(super) fn percent_decoded(text: &str) -> Option<String> {
    let mut url = Url::parse("x:/").ok()?;
    // In a query these two have a meaning that they have not in a user or password.
    let text = text.replace('+', "%2B").replace('&', "%26");
    url.set_query(Some(&format!("v={text}")));
    url.query_pairs()
        .next()
        .map(|(_, value)| value.into_owned())
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self}, pooler {:?})", self.pooler)
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.options.get_socket() {
            Some(socket) => write!(f, "{}", socket.display())?,
            None => write!(f, "{}:{}", self.options.get_host(), self.options.get_port())?,
        }
        write!(f, "/{}", self.options.get_database().unwrap_or_default())
    }
}

/// `DATABASE_CONNECTIONS`: how many one process may have at most, all purposes together.
pub(super) fn connections(environment: &Environment) -> Result<u32, ConfigError> {
    let default = ConnectionBudget::DEFAULT;
    environment.whole_number(
        "DATABASE_CONNECTIONS",
        default,
        ConnectionBudget::LEAST..=1000,
    )
}

pub(super) fn read(environment: &Environment) -> Result<Option<DatabaseUrl>, ConfigError> {
    let pooler = match environment.text("DATABASE_POOLER")? {
        None | Some("none") => Pooler::None,
        Some("transaction") => Pooler::Transaction,
        Some(_) => {
            return Err(ConfigError::new(
                "DATABASE_POOLER",
                "is not known",
                "none, transaction",
            ));
        }
    };
    let Some(url) = environment.text("DATABASE_URL")? else {
        return Ok(None);
    };
    DatabaseUrl::parse(url, pooler)
        .map(Some)
        .map_err(|what| ConfigError::new("DATABASE_URL", what, ALLOWED))
}
