//! The application that we work for: where it is, and who of its people may call us.

use ipnet::IpNet;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};

use super::{ConfigError, Environment, secret};

/// The shortest key that HS256 is safe with, in bytes (RFC 7518, 3.2).
const SHORTEST_KEY: usize = 32;

/// The application.
#[derive(Clone, Debug, Default)]
pub struct AppSettings {
    /// `APP_URL`: where links in mails lead; return addresses on its host are allowed.
    pub url: Option<Url>,
    /// `APP_SESSION_SECRET`: the key of the tokens with which people call the organizations API.
    pub session_secret: Option<SecretString>,
    /// `APP_ORIGINS`: browser origins that may call the organizations API.
    pub origins: Vec<String>,
    /// `TRUSTED_PROXIES`: networks whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
}

pub(super) fn read(environment: &Environment) -> Result<AppSettings, ConfigError> {
    Ok(AppSettings {
        url: environment.web_address("APP_URL", "https://app.example.com")?,
        session_secret: session_secret(environment)?,
        origins: origins(environment)?,
        trusted_proxies: trusted_proxies(environment)?,
    })
}

fn session_secret(environment: &Environment) -> Result<Option<SecretString>, ConfigError> {
    let secret = secret::token(environment, "APP_SESSION_SECRET")?;
    match secret {
        Some(secret) if secret.expose_secret().len() < SHORTEST_KEY => Err(ConfigError::new(
            "APP_SESSION_SECRET",
            "is too short",
            "at least 32 bytes",
        )),
        secret => Ok(secret),
    }
}

/// Kept as a browser writes them: scheme, host in lower case, and a port that is not the usual one.
fn origins(environment: &Environment) -> Result<Vec<String>, ConfigError> {
    let text = environment.text("APP_ORIGINS")?.unwrap_or_default();
    let origin = |word: &str| {
        let url = Url::parse(word).ok()?;
        let plain = matches!(url.scheme(), "http" | "https")
            && url.path() == "/"
            && !word.ends_with('/')
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        plain.then(|| url.origin().ascii_serialization())
    };
    let read: Option<Vec<String>> = text.split_whitespace().map(origin).collect();
    read.ok_or_else(|| {
        ConfigError::new(
            "APP_ORIGINS",
            "holds something that is no origin",
            "origins such as https://app.example.com, separated by blanks",
        )
    })
}

fn trusted_proxies(environment: &Environment) -> Result<Vec<IpNet>, ConfigError> {
    let text = environment.text("TRUSTED_PROXIES")?.unwrap_or_default();
    let words = text.split(|c: char| c == ',' || c.is_whitespace());
    let network = |word: &str| {
        let address = || word.parse::<std::net::IpAddr>().ok().map(IpNet::from);
        word.parse().ok().or_else(address)
    };
    let read: Option<Vec<IpNet>> = words.filter(|word| !word.is_empty()).map(network).collect();
    read.ok_or_else(|| {
        ConfigError::new(
            "TRUSTED_PROXIES",
            "holds something that is no network",
            "networks such as 10.0.0.0/8 or addresses, separated by blanks or commas",
        )
    })
}
