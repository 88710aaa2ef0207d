//! One conversation with an SMTP server. It is led command by command, because a refusal means something else
//! at each: before the recipient is named it is about us, afterwards about this one mail.
//! [`Session::open`] is the first half, [`Session::send`] the second.

use std::error::Error as _;
use std::sync::OnceLock;
use std::time::Duration;

use lettre::Address;
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use secrecy::ExposeSecret;

use super::Message;
use super::mailer::{Security, SmtpServer};

/// From the first packet until the server takes mail from us.
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);
/// Until the server wants to have the mail.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(40);
/// Until it says that it has it, as RFC 5321, 4.5.3.2.6 asks for: servers deliver what they have and answer late, and
/// who hangs up meanwhile and sends the mail again sends it twice.
const TAKE_TIMEOUT: Duration = Duration::from_secs(600);
/// Saying goodbye is a courtesy.
const QUIT_TIMEOUT: Duration = Duration::from_secs(1);
/// "Service not available, closing": about the server at whatever point it comes.
const CLOSING: u16 = 421;

/// A connection that is ready for one mail.
pub(crate) struct Session(AsyncSmtpConnection);

/// Why a mail was not taken.
pub(super) enum Failure {
    /// Refused for good.
    Refused(String),
    /// Refused for now, or the answer did not come.
    Temporary(String),
    /// The server ends the conversation: it takes nobody's mail for a while.
    Closing(String),
}

impl Session {
    /// Connects, encrypts, logs in, and names the sender, who is the same for every mail.
    ///
    /// # Errors
    /// Why it cannot be used; a text without addresses.
    pub(super) async fn open(
        server: &SmtpServer,
        tls: &OnceLock<TlsParameters>,
        from: &Address,
    ) -> Result<Self, String> {
        match tokio::time::timeout(OPEN_TIMEOUT, open(server, tls, from)).await {
            Ok(opened) => opened.map(Self),
            Err(_) => Err(format!("no answer within {} s", OPEN_TIMEOUT.as_secs())),
        }
    }

    /// Says goodbye. Whatever comes of that, what was to be known is known.
    pub(super) async fn close(mut self) {
        let _goodbye = tokio::time::timeout(QUIT_TIMEOUT, self.0.quit()).await;
    }

    pub(super) async fn send(mut self, message: &Message) -> Result<(), Failure> {
        let connection = &mut self.0;
        let announced = in_time(ANNOUNCE_TIMEOUT, announce(connection, message)).await;
        let sent = match announced {
            Ok(Ok(())) => in_time(TAKE_TIMEOUT, deliver(connection, message)).await,
            refused => refused,
        };
        // Without an answer there is nobody to say goodbye to.
        if sent.is_ok() {
            self.close().await;
        }
        sent.unwrap_or_else(Err)
    }
}

/// What came of it; an error where nothing did.
async fn in_time<T>(
    limit: Duration,
    step: impl Future<Output = Result<T, Failure>>,
) -> Result<Result<T, Failure>, Failure> {
    tokio::time::timeout(limit, step).await.map_err(|_| {
        Failure::Temporary(format!(
            "the mail server did not take the mail within {} s",
            limit.as_secs()
        ))
    })
}

async fn open(
    server: &SmtpServer,
    tls: &OnceLock<TlsParameters>,
    from: &Address,
) -> Result<AsyncSmtpConnection, String> {
    let hello = ClientId::default();
    let tls = || encryption(server, tls);
    let from_the_start = match server.security {
        Security::Tls => Some(tls()?),
        Security::StartTls | Security::Opportunistic => None,
    };
    let address = (server.host.as_str(), server.port);
    let connected = AsyncSmtpConnection::connect_tokio1(
        address,
        Some(OPEN_TIMEOUT),
        &hello,
        from_the_start,
        None,
    );
    let mut connection = connected.await.map_err(|error| describe(&error))?;
    if connection.can_starttls() {
        let encrypted = connection.starttls(tls()?, &hello).await;
        encrypted.map_err(|error| describe(&error))?;
    }
    if server.security == Security::StartTls && !connection.is_encrypted() {
        return Err("it offers no encryption (STARTTLS)".to_owned());
    }
    if let Some((user, password)) = &server.credentials {
        let credentials = Credentials::new(user.clone(), password.expose_secret().to_owned());
        let mechanisms = [Mechanism::Plain, Mechanism::Login];
        let logged_in = connection.auth(&mechanisms, &credentials).await;
        logged_in.map_err(|error| format!("the log-in failed: {}", describe(&error)))?;
    }
    let sender = Mail::new(Some(from.clone()), Vec::new());
    let accepted = connection.command(sender).await;
    accepted.map_err(|error| format!("it does not take the sender: {}", describe(&error)))?;
    Ok(connection)
}

/// The certificates that are trusted: read once, for they are many.
fn encryption(
    server: &SmtpServer,
    known: &OnceLock<TlsParameters>,
) -> Result<TlsParameters, String> {
    if let Some(tls) = known.get() {
        return Ok(tls.clone());
    }
    let tls = TlsParameters::new(server.host.clone()).map_err(|error| describe(&error))?;
    Ok(known.get_or_init(|| tls).clone())
}

/// Refusals of us that many servers only speak out once they know the recipient: we are not logged in (530, 535, 538), or
/// may not send there or in this name (RFC 3463, 5.7.x). They pass when an operator has seen to it. Once the content is
/// known, 5.7.x may be about that.
fn is_about_us(step: &str, error: &SmtpError) -> bool {
    let enhanced = error.source().map(ToString::to_string).unwrap_or_default();
    let is_policy = enhanced.trim_start().starts_with("5.7.");
    let code = error.status().map(u16::from);
    matches!(code, Some(530 | 535 | 538)) || step == RCPT && is_policy
}

const RCPT: &str = "RCPT TO";

/// A refusal from here on is about this mail, or else about us.
fn failure(step: &str, error: &SmtpError) -> Failure {
    let reason = format!("{step}: {}", describe(error));
    match error.status().map(u16::from) {
        Some(CLOSING) => Failure::Closing(reason),
        Some(500..) if !is_about_us(step, error) => Failure::Refused(format!(
            "the mail server refuses the mail for good: {reason}"
        )),
        _ => Failure::Temporary(format!("the mail server did not take the mail: {reason}")),
    }
}

async fn announce(connection: &mut AsyncSmtpConnection, message: &Message) -> Result<(), Failure> {
    let to: Address = message.to().clone();
    let accepted = connection.command(Rcpt::new(to, Vec::new())).await;
    accepted.map_err(|error| failure(RCPT, &error))?;
    let accepted = connection.command(Data).await;
    accepted.map(drop).map_err(|error| failure("DATA", &error))
}

async fn deliver(connection: &mut AsyncSmtpConnection, message: &Message) -> Result<(), Failure> {
    let taken = connection.message(message.bytes()).await;
    taken
        .map(drop)
        .map_err(|error| failure("end of data", &error))
}

/// What went wrong, without the server's sentence: it may quote the address.
fn describe(error: &SmtpError) -> String {
    if let Some(code) = error.status() {
        return format!("it answered {code}");
    }
    if let Some(fault) = certificate_fault(error) {
        return format!("its certificate is not trusted ({fault})");
    }
    let kind = if error.is_timeout() {
        "no answer in time"
    } else if error.is_tls() {
        "the encryption failed"
    } else if error.is_response() {
        "its answer cannot be read"
    } else {
        "the connection failed"
    };
    match error.source() {
        Some(cause) if !error.is_response() => format!("{kind} ({cause})"),
        _ => kind.to_owned(),
    }
}

/// What is wrong with the server's certificate, if that was the reason.
fn certificate_fault(error: &SmtpError) -> Option<&rustls::CertificateError> {
    let mut cause: &(dyn std::error::Error + 'static) = error;
    loop {
        if let Some(rustls::Error::InvalidCertificate(fault)) = cause.downcast_ref() {
            return Some(fault);
        }
        // What an I/O error wraps is not among its sources.
        let wrapped = cause.downcast_ref().and_then(std::io::Error::get_ref);
        cause = match wrapped {
            Some(wrapped) => wrapped,
            None => cause.source()?,
        };
    }
}
