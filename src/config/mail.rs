//! How mail is sent: the transport, the sender, and where links lead.

use std::path::PathBuf;

use jobs::mail::{Links, Mailer, MailerConfig, Security, Sender, SmtpServer, Transport};
use reqwest::Url;
use secrecy::SecretString;

use super::{ConfigError, Environment, database::percent_decoded};

const ALLOWED: &str =
    "smtp://user:password@host:port, smtps://user:password@host:port or file:directory";
const SENDER: &str = "name@example.com or Name <name@example.com>";

/// Transport and addresses of mail.
#[derive(Clone, Debug)]
pub struct MailSettings {
    /// Where mail goes.
    pub transport: Transport,
    /// `MAIL_FROM`.
    pub from: Sender,
    /// `MAIL_REPLY_TO`.
    pub reply_to: Option<Sender>,
    /// The server's password as it stands in the URL and decoded.
    passwords: Vec<SecretString>,
}

impl MailSettings {
    /// The sender where mail goes to files and none is set: nobody needs to exist for that.
    const SENDER_IN_FILES: &str = "billing@example.com";

    /// Mail to files in this directory.
    #[must_use]
    pub fn to_directory(directory: PathBuf) -> Self {
        Self {
            transport: Transport::Directory(directory),
            from: Sender::parse(Self::SENDER_IN_FILES).expect("a constant that is an address"),
            reply_to: None,
            passwords: Vec::new(),
        }
    }

    /// The server's password, as it stands in the URL and decoded.
    pub(super) fn passwords(&self) -> Vec<SecretString> {
        self.passwords.clone()
    }

    /// What takes such mail away; its links lead to `app_url`.
    pub(super) fn mailer(&self, app_url: Option<&Url>) -> Mailer {
        Mailer::new(MailerConfig {
            transport: self.transport.clone(),
            from: self.from.clone(),
            reply_to: self.reply_to.clone(),
            links: Links {
                billing: app_url.map(Url::to_string),
            },
        })
    }
}

pub(super) fn read(environment: &Environment) -> Result<Option<MailSettings>, ConfigError> {
    let from = sender(environment, "MAIL_FROM")?;
    let reply_to = sender(environment, "MAIL_REPLY_TO")?;
    let Some(text) = environment.text("MAIL_URL")? else {
        return Ok(None);
    };
    let settings = match text.strip_prefix("file:") {
        Some(path) => {
            let to_files = MailSettings::to_directory(directory(path)?);
            MailSettings {
                from: from.unwrap_or_else(|| to_files.from.clone()),
                reply_to,
                ..to_files
            }
        }
        None => {
            let (server, passwords) = server(text)?;
            MailSettings {
                transport: Transport::Smtp(server),
                from: from.ok_or_else(|| ConfigError::missing("MAIL_FROM", SENDER))?,
                reply_to,
                passwords,
            }
        }
    };
    Ok(Some(settings))
}

/// `file:./var/mail`, `file:/var/mail` and `file:///var/mail` all name a directory.
fn directory(path: &str) -> Result<PathBuf, ConfigError> {
    match path.strip_prefix("//").unwrap_or(path) {
        "" => Err(ConfigError::new("MAIL_URL", "names no directory", ALLOWED)),
        path => Ok(PathBuf::from(path)),
    }
}

fn server(text: &str) -> Result<(SmtpServer, Vec<SecretString>), ConfigError> {
    let wrong = || {
        ConfigError::new(
            "MAIL_URL",
            "is not the address of a mail server or directory",
            ALLOWED,
        )
    };
    let url = Url::parse(text).map_err(|_| wrong())?;
    let host = url.host_str().ok_or_else(wrong)?;
    let decoded = |text: &str| percent_decoded(text).ok_or_else(wrong);
    let credentials = match (url.username(), url.password()) {
        ("", _) => None,
        (user, password) => Some((decoded(user)?, decoded(password.unwrap_or_default())?)),
    };
    let (security, port) = match (url.scheme(), &credentials) {
        ("smtps", _) => (Security::Tls, 465),
        // A password is not sent in the clear, unless nobody could listen.
        ("smtp", Some(_)) if !is_this_machine(host) => (Security::StartTls, 587),
        ("smtp", Some(_)) => (Security::Opportunistic, 587),
        ("smtp", None) => (Security::Opportunistic, 25),
        _ => return Err(wrong()),
    };
    let raw = url.password().map(str::to_owned);
    let decoded = credentials.as_ref().map(|(_, password)| password.clone());
    let passwords = raw.into_iter().chain(decoded).map(SecretString::from);
    let server = SmtpServer {
        host: host.trim_matches(['[', ']']).to_owned(),
        port: url.port().unwrap_or(port),
        security,
        credentials: credentials.map(|(user, password)| (user, SecretString::from(password))),
    };
    Ok((server, passwords.collect()))
}

fn is_this_machine(host: &str) -> bool {
    matches!(host, "localhost" | "127.0.0.1" | "[::1]")
}

/// Whether anybody lives there is the mail server's business.
fn sender(
    environment: &Environment,
    variable: &'static str,
) -> Result<Option<Sender>, ConfigError> {
    let Some(text) = environment.text(variable)? else {
        return Ok(None);
    };
    match Sender::parse(text) {
        Some(sender) if !text.contains(char::is_control) => Ok(Some(sender)),
        _ => Err(ConfigError::new(variable, "is not a mail address", SENDER)),
    }
}
