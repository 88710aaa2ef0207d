//! Takes mails away: to an SMTP server, or into a directory.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use lettre::Address;
use lettre::message::Mailbox;
use lettre::transport::smtp::client::TlsParameters;
use secrecy::SecretString;

use super::{Links, MailKey, Message, smtp};
use crate::outage::{Admission, Held, Outage};

/// How mail leaves.
#[derive(Clone, Debug)]
pub struct MailerConfig {
    /// Where it goes.
    pub transport: Transport,
    /// Whom it is from.
    pub from: Sender,
    /// Whom answers go to.
    pub reply_to: Option<Sender>,
    /// Where the mails lead.
    pub links: Links,
}

/// Where mail goes.
#[derive(Clone, Debug)]
pub enum Transport {
    /// An SMTP server.
    Smtp(SmtpServer),
    /// One `.eml` file per mail in this directory.
    Directory(PathBuf),
}

/// An SMTP server.
#[derive(Clone)]
pub struct SmtpServer {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is encrypted.
    pub security: Security,
    /// User and password.
    pub credentials: Option<(String, SecretString)>,
}

/// How the connection to an SMTP server is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// From the first byte.
    Tls,
    /// By STARTTLS; a server that does not offer it is not used.
    StartTls,
    /// By STARTTLS where the server offers it.
    Opportunistic,
}

/// A sender: an address, perhaps with a name.
#[derive(Clone)]
pub struct Sender(pub(super) Mailbox);

impl Sender {
    /// Reads `name@host` or `Name <name@host>`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut mailbox: Mailbox = text.parse().ok()?;
        let domain = idna::domain_to_ascii(mailbox.email.domain()).ok()?;
        mailbox.email = Address::new(mailbox.email.user(), domain).ok()?;
        Some(Self(mailbox))
    }
}

/// Takes mails away. Cheap to clone; clones share what is known of the server.
#[derive(Clone)]
pub struct Mailer(Arc<Shared>);

struct Shared {
    config: MailerConfig,
    outage: Outage,
    tls: OnceLock<TlsParameters>,
}

/// Why a mail did not go. The texts hold no addresses: what a server says about a recipient often does.
#[derive(Debug)]
pub(crate) enum SendError {
    /// This mail is refused for good.
    Refused(String),
    /// This mail may be taken later, or was taken although its answer was lost.
    Temporary(String),
}

/// What a mail can be handed to now.
pub(crate) enum Connection<'a> {
    Smtp(&'a Mailer, Box<smtp::Session>),
    Directory(&'a Path),
}

impl Mailer {
    /// A mailer; nothing is connected yet.
    #[must_use]
    pub fn new(config: MailerConfig) -> Self {
        Self(Arc::new(Shared {
            config,
            outage: Outage::default(),
            tls: OnceLock::new(),
        }))
    }

    /// Where it takes them.
    #[must_use]
    pub fn transport(&self) -> &Transport {
        &self.config().transport
    }

    /// Asks the mail server whether it takes mail from us, and sends none.
    ///
    /// # Errors
    /// Why it does not; a text without addresses and secrets.
    pub async fn check(&self) -> Result<(), String> {
        match self.connect().await {
            Ok(Connection::Smtp(_, session)) => session.close().await,
            Ok(Connection::Directory(_)) => {}
            Err(held) => return Err(held.reason),
        }
        Ok(())
    }

    pub(crate) fn config(&self) -> &MailerConfig {
        &self.0.config
    }

    /// The domain of the sender, which makes message ids ours.
    pub(crate) fn domain(&self) -> &str {
        self.config().from.0.email.domain()
    }

    /// Opens the way to the server, up to the point from which on everything is about one mail. After a failure
    /// one caller at a time tries again, and the others learn how long to wait; no reason holds addresses.
    pub(crate) async fn connect(&self) -> Result<Connection<'_>, Held> {
        let server = match &self.config().transport {
            Transport::Directory(directory) => return Ok(Connection::Directory(directory)),
            Transport::Smtp(server) => server,
        };
        let admission = self.0.outage.admit(Instant::now())?;
        match smtp::Session::open(server, &self.0.tls, &self.config().from.0.email).await {
            Ok(session) => {
                self.0.outage.end();
                Ok(Connection::Smtp(self, Box::new(session)))
            }
            Err(cause) => Err(self.unavailable(&cause, admission)),
        }
    }

    fn unavailable(&self, cause: &str, admission: Admission) -> Held {
        let reason = format!("the mail server is not available: {cause}");
        tracing::warn!("{reason}");
        self.0.outage.begin(&reason, admission, Instant::now())
    }
}

impl Connection<'_> {
    /// Hands over one mail.
    pub(crate) async fn send(self, key: &MailKey, message: &Message) -> Result<(), SendError> {
        let (mailer, session) = match self {
            Self::Directory(directory) => return write(directory, key, message).await,
            Self::Smtp(mailer, session) => (mailer, session),
        };
        session
            .send(message)
            .await
            .map_err(|failure| match failure {
                smtp::Failure::Refused(reason) => SendError::Refused(reason),
                smtp::Failure::Temporary(reason) => SendError::Temporary(reason),
                // The others wait; this one counts as put off, for it may be what the server dislikes.
                smtp::Failure::Closing(cause) => {
                    SendError::Temporary(mailer.unavailable(&cause, Admission::Normal).reason)
                }
            })
    }
}

/// The file's name follows from the key: a mail that is written again replaces itself. It appears when it is
/// whole.
async fn write(directory: &Path, key: &MailKey, message: &Message) -> Result<(), SendError> {
    let name = key.digest();
    let (part, whole) = (
        directory.join(format!(".{name}.part")),
        directory.join(format!("{name}.eml")),
    );
    let written = async {
        tokio::fs::create_dir_all(directory).await?;
        tokio::fs::write(&part, message.bytes()).await?;
        tokio::fs::rename(&part, &whole).await
    };
    written.await.map_err(|error: std::io::Error| {
        SendError::Temporary(format!("the mail cannot be written to a file: {error}"))
    })
}

impl fmt::Debug for Mailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Mailer")
            .field(&self.config().transport)
            .finish()
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Smtp(server) => write!(f, "the mail server {}:{}", server.host, server.port),
            Self::Directory(directory) => write!(f, "files in {}", directory.display()),
        }
    }
}

impl fmt::Debug for SmtpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} ({:?})", self.host, self.port, self.security)
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender(..)")
    }
}
