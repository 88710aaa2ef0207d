//! Posting to the application: one address, signed by Standard Webhooks, with a breaker of its own.

mod breaker;
mod signing;

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use reqwest::{Client, Response, StatusCode, Url, header, redirect};
use secrecy::SecretString;

use crate::contract::Error;
use crate::outage::Held;
use breaker::Breaker;
pub use signing::SigningKey;

/// The longest that the application may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The wait after a 429 without `retry-after`, and the longest that is waited for one.
const BUSY_DELAY: Duration = Duration::from_secs(30);
const LONGEST_DELAY: Duration = Duration::from_secs(3600);

/// Where the application listens, and what it is signed with.
#[derive(Clone, Debug)]
pub struct AppWebhookSettings {
    /// `APP_WEBHOOK_URL`.
    pub url: Url,
    /// `APP_WEBHOOK_SECRET`: a message carries a signature by each, so that one can replace the other.
    pub keys: Vec<SigningKey>,
}

/// The application's webhook. Cheap to clone; clones share connections and the breaker.
#[derive(Clone)]
pub struct AppWebhook(Arc<Shared>);

struct Shared {
    http: Client,
    settings: AppWebhookSettings,
    breaker: Breaker,
}

/// One message, which is the same at each attempt.
#[derive(Clone, Debug)]
pub struct Message {
    /// `webhook-id`: whoever has seen it need not look at the message again.
    pub id: String,
    /// Below the application's address; empty: the address itself.
    pub path: Vec<String>,
    /// A JSON text.
    pub body: String,
}

/// Why the application did not take a message.
#[derive(Debug)]
pub(crate) enum NotTaken {
    /// It answered, and does not want it as it is.
    Refused(String),
    /// It did not answer, or said that it is not itself.
    Unanswered(String),
    /// It is down, or asks for time: that is no failure of this message.
    Later(Held),
}

impl From<Held> for NotTaken {
    fn from(held: Held) -> Self {
        Self::Later(held)
    }
}

impl From<NotTaken> for Error {
    fn from(why: NotTaken) -> Self {
        match why {
            NotTaken::Refused(reason) | NotTaken::Unanswered(reason) => Self::Retry(reason),
            NotTaken::Later(held) => held.into(),
        }
    }
}

impl AppWebhook {
    /// A client; nothing is asked yet.
    ///
    /// # Errors
    /// If the TLS set-up of the machine is unusable.
    pub fn new(settings: AppWebhookSettings) -> Result<Self, reqwest::Error> {
        // Fails only when somebody installed a provider before us, which then serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut http = Client::builder()
            .user_agent(concat!("polar-jobs/", env!("CARGO_PKG_VERSION")))
            .timeout(TIMEOUT)
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never());
        if settings.url.scheme() == "http" {
            // An application on this machine is reached where there are no certificates.
            http = http.tls_certs_only([]);
        }
        Ok(Self(Arc::new(Shared {
            http: http.build()?,
            settings,
            breaker: Breaker::default(),
        })))
    }

    /// Posts a message. `Ok` once the application answered 2xx.
    ///
    /// # Errors
    /// Why it did not. What it answered in words is not repeated, for it may be about people.
    pub(crate) async fn post(&self, message: &Message) -> Result<(), NotTaken> {
        let breaker = &self.0.breaker;
        let admission = breaker.admit(Instant::now())?;
        let failure = match self.send(message).await {
            Ok(answer) if answer.status().is_server_error() => answered(&answer),
            Ok(answer) => {
                breaker.answered();
                return judge(&answer);
            }
            Err(error) => unreachable(&error),
        };
        match breaker.failed(&message.id, &failure, admission, Instant::now()) {
            Some(held) => Err(held.into()),
            None => Err(NotTaken::Unanswered(failure)),
        }
    }

    async fn send(&self, message: &Message) -> Result<Response, reqwest::Error> {
        let Shared { http, settings, .. } = &*self.0;
        let mut url = settings.url.clone();
        if let (false, Ok(mut segments)) = (message.path.is_empty(), url.path_segments_mut()) {
            // The address may end in a slash, which is no name of anything.
            segments.pop_if_empty().extend(&message.path);
        }
        let timestamp = Utc::now().timestamp();
        let signatures: Vec<String> = settings
            .keys
            .iter()
            .map(|key| key.sign(&message.id, timestamp, &message.body))
            .collect();
        http.post(url)
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-id", &message.id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signatures.join(" "))
            .body(message.body.clone())
            .send()
            .await
    }
}

impl fmt::Debug for AppWebhook {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.settings.fmt(formatter)
    }
}

impl AppWebhookSettings {
    /// Every secret as it was given, for the masker.
    pub fn secrets(&self) -> impl Iterator<Item = SecretString> {
        self.keys.iter().map(SigningKey::secret)
    }
}

fn answered(answer: &Response) -> String {
    format!("the application answered {}", answer.status())
}

fn judge(answer: &Response) -> Result<(), NotTaken> {
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let text = answered(answer);
    Err(match status {
        StatusCode::TOO_MANY_REQUESTS => NotTaken::Later(Held {
            retry_after: retry_after(answer),
            reason: text,
        }),
        _ if status.is_redirection() => {
            NotTaken::Refused(format!("{text}; redirects are not followed"))
        }
        _ => NotTaken::Refused(text),
    })
}

/// Seconds, as nearly everybody writes it; a date is taken for none.
fn retry_after(answer: &Response) -> Duration {
    let seconds = answer.headers().get(header::RETRY_AFTER);
    let seconds = seconds.and_then(|value| value.to_str().ok()?.trim().parse().ok());
    seconds.map_or(BUSY_DELAY, |seconds: u64| {
        Duration::from_secs(seconds.max(1)).min(LONGEST_DELAY)
    })
}

/// Why there was no answer, without the address.
fn unreachable(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!(
            "the application did not answer within {} s",
            TIMEOUT.as_secs()
        );
    }
    let what = if error.is_connect() {
        "the application cannot be reached"
    } else {
        "the connection to the application broke before its answer"
    };
    let mut cause = error.source();
    while let Some(deeper) = cause.and_then(std::error::Error::source) {
        cause = Some(deeper);
    }
    cause.map_or_else(|| what.to_owned(), |cause| format!("{what}: {cause}"))
}
