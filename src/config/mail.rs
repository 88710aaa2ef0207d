//! How mail is sent: the transport and the sender's address.

use std::fmt;
use std::path::PathBuf;

use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};

use super::{ConfigError, Environment, database::percent_decoded};

const ALLOWED: &str =
    "smtp://user:password@host:port, smtps://user:password@host:port or file:directory";

/// Transport and addresses of mail.
#[derive(Clone, Debug)]
pub struct MailSettings {
    /// Where mail goes.
    pub transport: Transport,
    /// `MAIL_FROM`.
    pub from: Option<String>,
    /// `MAIL_REPLY_TO`.
    pub reply_to: Option<String>,
}

/// Where mail goes.
#[derive(Clone)]
pub enum Transport {
    /// An SMTP server, as the URL says; with its password.
    Smtp(SecretString),
    /// One file per mail in this directory.
    Directory(PathBuf),
}

impl MailSettings {
    /// The server's password, as it stands in the URL and decoded.
    pub(super) fn passwords(&self) -> Vec<SecretString> {
        let Transport::Smtp(url) = &self.transport else {
            return Vec::new();
        };
        let raw = Url::parse(url.expose_secret())
            .ok()
            .and_then(|url| url.password().map(str::to_owned));
        let decoded = raw.as_deref().and_then(percent_decoded);
        raw.into_iter()
            .chain(decoded)
            .map(SecretString::from)
            .collect()
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Smtp(_) => f.write_str("Smtp(***)"),
            Self::Directory(directory) => write!(f, "Directory({})", directory.display()),
        }
    }
}

pub(super) fn read(environment: &Environment) -> Result<Option<MailSettings>, ConfigError> {
    let from = address(environment, "MAIL_FROM")?;
    let reply_to = address(environment, "MAIL_REPLY_TO")?;
    let Some(url) = environment.text("MAIL_URL")? else {
        return Ok(None);
    };
    Ok(Some(MailSettings {
        transport: transport(url)?,
        from,
        reply_to,
    }))
}

fn transport(text: &str) -> Result<Transport, ConfigError> {
    if let Some(path) = text.strip_prefix("file:") {
        // `file:./var/mail`, `file:/var/mail` and `file:///var/mail` all name a directory.
        let path = path.strip_prefix("//").unwrap_or(path);
        return match path {
            "" => Err(ConfigError::new("MAIL_URL", "names no directory", ALLOWED)),
            path => Ok(Transport::Directory(PathBuf::from(path))),
        };
    }
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "smtp" | "smtps") && url.has_host() => {
            Ok(Transport::Smtp(SecretString::from(text)))
        }
        _ => Err(ConfigError::new(
            "MAIL_URL",
            "is not a mail address of a server or directory",
            ALLOWED,
        )),
    }
}

/// `name@host` or `Name <name@host>`; whether anybody lives there is the mail server's business.
fn address(
    environment: &Environment,
    variable: &'static str,
) -> Result<Option<String>, ConfigError> {
    let Some(text) = environment.text(variable)? else {
        return Ok(None);
    };
    let bare = text
        .rsplit_once('<')
        .map_or(text, |(_, rest)| rest.trim_end_matches('>'));
    let looks_right = bare
        .split_once('@')
        .is_some_and(|(name, host)| !name.is_empty() && !host.is_empty() && !host.contains('@'));
    if looks_right && !text.contains(char::is_control) && !bare.contains(char::is_whitespace) {
        Ok(Some(text.to_owned()))
    } else {
        Err(ConfigError::new(
            variable,
            "is not a mail address",
            "name@example.com or Name <name@example.com>",
        ))
    }
}
