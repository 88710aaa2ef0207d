//! One exchange with Plain: may it go out, send, read within bounds, and learn from what came of it.

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Response, StatusCode, Url, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::availability::{Admission, Availability, Delays};
use crate::error::without_addresses;
use crate::{Error, HeldReason, Operation};

/// The longest that connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest answer that is read; ours are below 1 KiB.
const LARGEST_ANSWER: usize = 1024 * 1024;
/// How long we wait at most because Plain says so, and without a word from it.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
const USUAL_WAIT: Duration = Duration::from_secs(60);
/// About nobody, and known to every GraphQL server.
const PROBE: &str = "query { __typename }";

/// How to reach Plain.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The full GraphQL endpoint.
    pub api_url: Url,
    /// An API key.
    pub token: SecretString,
    /// The longest that one call may take, from connecting to the last byte. 10 s is usual.
    pub timeout: Duration,
    /// How long calls are held back while Plain cannot be used.
    pub delays: Delays,
    /// Says who calls.
    pub user_agent: String,
}

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The token has characters that no header can carry.
    #[error("the token of the support desk holds characters that no header can carry")]
    Token,
    /// The TLS set-up of the machine is unusable.
    #[error("the HTTP client cannot be set up ({0}); are the system's CA certificates installed?")]
    Http(#[source] reqwest::Error),
}

/// Plain's API. Cheap to clone; clones share connections and what is known about Plain.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    reads_only: bool,
}

struct Shared {
    http: reqwest::Client,
    url: Url,
    timeout: Duration,
    availability: Availability,
}

/// How one exchange failed.
enum Failure {
    /// No answer of Plain's, or one that says it is out of order. One that is no JSON is none of Plain's.
    Down(String),
    RateLimited(Duration),
    Unauthorized,
}

impl Client {
    /// A client for the six operations.
    ///
    /// # Errors
    /// When the configuration cannot be used; the error never holds the token.
    pub fn new(config: ClientConfig) -> Result<Self, BuildError> {
        // Fails only when somebody installed a provider before us, which then serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut authorization =
            HeaderValue::from_str(&format!("Bearer {}", config.token.expose_secret()))
                .map_err(|_| BuildError::Token)?;
        authorization.set_sensitive(true);
        let mut http = reqwest::Client::builder()
            .default_headers(HeaderMap::from_iter([(AUTHORIZATION, authorization)]))
            .user_agent(config.user_agent)
            .timeout(config.timeout)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never());
        if config.api_url.scheme() == "http" {
            // A local Plain must work on a machine without certificates.
            http = http.tls_certs_only([]);
        }
        Ok(Self {
            shared: Arc::new(Shared {
                http: http.build().map_err(BuildError::Http)?,
                url: config.api_url,
                timeout: config.timeout,
                availability: Availability::new(config.delays),
            }),
            reads_only: false,
        })
    }

    /// The same client for looking only: what would change something is answered with
    /// [`Error::NotSent`].
    #[must_use]
    pub fn read_only(&self) -> Self {
        Self {
            reads_only: true,
            ..self.clone()
        }
    }

    /// Asks Plain something about nobody, so that an answer shows that it is there and takes the token.
    ///
    /// # Errors
    /// `Held` when it does not answer or refuses the token.
    pub async fn probe(&self) -> Result<(), Error> {
        let operation = Operation::Probe;
        match self.shared.send(PROBE, &Value::Null).await {
            Ok(_) => Ok(()),
            Err(failure) => Err(self.shared.judge_probe(operation, failure)),
        }
    }

    /// Sends an operation; returns what stands under its name in the answer's `data`.
    pub(crate) async fn call(
        &self,
        operation: Operation,
        document: &str,
        variables: &Value,
    ) -> Result<Value, Error> {
        if self.reads_only && operation.changes() {
            return Err(Error::NotSent { operation });
        }
        self.admit(operation).await?;
        let started = Instant::now();
        let outcome = self.shared.send(document, variables).await;
        tracing::debug!(%operation, milliseconds = started.elapsed().as_millis(), answered = outcome.is_ok(), "called Plain");
        let mut answer = match outcome {
            Ok(answer) => answer,
            Err(Failure::Down(detail)) => return Err(self.whose_failure(operation, detail).await),
            Err(failure) => return Err(self.shared.judge(operation, failure)),
        };
        if let Some(error) = top_level_error(operation, &answer) {
            return Err(error);
        }
        let unreadable = Error::Unreadable {
            operation,
            reason: "it lacks the operation's result",
        };
        let data = answer.get_mut("data");
        let result = data.and_then(|data| data.get_mut(operation.name()));
        let result = result.map(Value::take).ok_or(unreadable)?;
        match result.get("error") {
            Some(error) if !error.is_null() => Err(self.shared.refusal(operation, error)),
            _ => Ok(result),
        }
    }

    async fn admit(&self, operation: Operation) -> Result<(), Error> {
        let shared = &*self.shared;
        match shared.availability.admit(Instant::now(), shared.timeout) {
            Admission::Call => Ok(()),
            Admission::Held(reason, left) => Err(held(operation, reason, left)),
            Admission::Probe => {
                self.probe().await.map_err(|error| match error {
                    Error::Held {
                        reason,
                        retry_after,
                        ..
                    } => Error::Held {
                        operation,
                        reason,
                        retry_after,
                    },
                    error => error,
                })?;
                tracing::info!("Plain answers again");
                shared.availability.answered();
                Ok(())
            }
        }
    }

    /// A failed call proves nothing: whether Plain is down is asked about nobody.
    async fn whose_failure(&self, operation: Operation, detail: String) -> Error {
        let known = self.shared.availability.held(Instant::now());
        if let Some((reason, left)) = known {
            return held(operation, reason, left);
        }
        match self.shared.send(PROBE, &Value::Null).await {
            Ok(_) => Error::Failed { operation, detail },
            Err(failure) => self.shared.judge_probe(operation, failure),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("host", &self.shared.url.host_str())
            .field("reads_only", &self.reads_only)
            .finish_non_exhaustive()
    }
}

impl Shared {
    async fn send(&self, document: &str, variables: &Value) -> Result<Value, Failure> {
        let body = json!({"query": document, "variables": variables});
        let request = self.http.post(self.url.clone()).json(&body);
        let response = request.send().await.map_err(|fault| interrupted(&fault))?;
        match response.status() {
            StatusCode::TOO_MANY_REQUESTS => Err(Failure::RateLimited(retry_after(&response))),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Failure::Unauthorized),
            status if status.is_success() || status == StatusCode::BAD_REQUEST => {
                let body = read(response).await?;
                serde_json::from_slice(&body)
                    .map_err(|_| Failure::Down("Plain's answer is no JSON".to_owned()))
            }
            status => Err(Failure::Down(format!("Plain answered {}", status.as_u16()))),
        }
    }

    /// What a failed call means, where it is clear without a probe.
    fn judge(&self, operation: Operation, failure: Failure) -> Error {
        let (reason, asked) = match failure {
            Failure::RateLimited(asked) => (HeldReason::RateLimited, Some(asked)),
            Failure::Unauthorized => (HeldReason::Unauthorized, None),
            Failure::Down(detail) => return Error::Failed { operation, detail },
        };
        self.hold(operation, reason, asked)
    }

    /// The same of a probe.
    fn judge_probe(&self, operation: Operation, failure: Failure) -> Error {
        match failure {
            Failure::Down(_) => {
                let delay = self.availability.down(Instant::now());
                tracing::warn!(
                    next_try_in_seconds = delay.as_secs(),
                    "Plain is down; what is meant for it waits"
                );
                held(operation, HeldReason::Down, delay)
            }
            failure => self.judge(operation, failure),
        }
    }

    /// What Plain says inside an answer. What the token may not do is refused to every other call too.
    fn refusal(&self, operation: Operation, error: &Value) -> Error {
        let text = |key: &str| error[key].as_str().unwrap_or_default();
        if text("type") == "FORBIDDEN" || text("code") == "forbidden" {
            return self.hold(operation, HeldReason::Unauthorized, None);
        }
        let fields = error["fields"].as_array().into_iter().flatten();
        let fields: Vec<&str> = fields.filter_map(|field| field["field"].as_str()).collect();
        let mut message = without_addresses(text("message"));
        if !fields.is_empty() {
            message = format!("{message} (fields: {})", fields.join(", "));
        }
        Error::Refused {
            operation,
            code: text("code").to_owned(),
            message,
        }
    }

    fn hold(&self, operation: Operation, reason: HeldReason, asked: Option<Duration>) -> Error {
        let delay = self.availability.hold(reason, asked, Instant::now());
        tracing::warn!(%reason, next_try_in_seconds = delay.as_secs(), "calls to Plain wait");
        held(operation, reason, delay)
    }
}

/// Whoever waits comes back a little later than the next probe, each at a moment of its own.
fn held(operation: Operation, reason: HeldReason, left: Duration) -> Error {
    let stagger = left.mul_f64(rand::rng().random::<f64>() * 0.5);
    Error::Held {
        operation,
        reason,
        retry_after: left + stagger + Duration::from_millis(100),
    }
}

fn top_level_error(operation: Operation, answer: &Value) -> Option<Error> {
    let first = answer.get("errors")?.as_array()?.first()?;
    let code = first["extensions"]["code"].as_str().unwrap_or("error");
    Some(Error::Refused {
        operation,
        code: code.to_owned(),
        message: without_addresses(first["message"].as_str().unwrap_or_default()),
    })
}

fn retry_after(response: &Response) -> Duration {
    let header = response.headers().get(RETRY_AFTER);
    let seconds = header.and_then(|value| value.to_str().ok()?.trim().parse().ok());
    seconds.map_or(USUAL_WAIT, |seconds: u64| {
        Duration::from_secs(seconds.max(1)).min(LONGEST_WAIT)
    })
}

/// Reads the body piece by piece, so that an endless one is given up at the bound.
async fn read(mut response: Response) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(piece) = response
        .chunk()
        .await
        .map_err(|fault| interrupted(&fault))?
    {
        if body.len() + piece.len() > LARGEST_ANSWER {
            return Err(Failure::Down("Plain's answer is too large".to_owned()));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

fn interrupted(fault: &reqwest::Error) -> Failure {
    let how = if fault.is_timeout() {
        "Plain did not answer in time"
    } else if fault.is_connect() {
        "Plain cannot be reached"
    } else {
        "the connection to Plain broke"
    };
    let mut deepest = fault.source();
    while let Some(next) = deepest.and_then(std::error::Error::source) {
        deepest = Some(next);
    }
    Failure::Down(match deepest {
        Some(cause) => format!("{how}: {cause}"),
        None => how.to_owned(),
    })
}
