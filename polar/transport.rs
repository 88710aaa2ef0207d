//! One exchange with Polar: ask the rate limiter, send, read within bounds, record what came of it.

use std::{error::Error as _, time::Instant};

use reqwest::{
    Response,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue},
};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;

use crate::{
    Admission, Answer, CallClass, CallFacts, Client, Error, Interruption, Operation, RateLimiter,
    Subject,
    call::Call,
    redact::Redactor,
    refusal::{self, Refusal, VERSION},
};

/// The largest answer that is read. A page of a hundred subscriptions is well below 1 MiB.
const LARGEST_ANSWER: usize = 16 * 1024 * 1024;

/// What a probe asks: a short list that is about no customer. Without the scope for it Polar answers
/// 403, which shows as well that it is there and takes the token.
const PROBE: Operation = Operation::get("/v1/products/");

/// A success.
struct Received {
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Received {
    fn read<T: DeserializeOwned>(&self, operation: Operation) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|fault| Error::Unreadable {
            operation,
            reason: describe(&fault),
        })
    }

    /// The same if it is Polar's and not that of something in between.
    fn of_polar(self, operation: Operation) -> Result<Self, Error> {
        if self.headers.contains_key(VERSION) {
            return Ok(self);
        }
        Err(Error::Unreadable {
            operation,
            reason: format!("it lacks the header {VERSION}, so it is not Polar's"),
        })
    }
}

impl Client {
    /// Sends a call whose success carries a body.
    pub(crate) async fn fetch<T: DeserializeOwned>(&self, call: Call) -> Result<T, Error> {
        let operation = call.operation;
        self.exchange(call).await?.read(operation)
    }

    /// The same where what is read decides that something is never sent again: it must be Polar's word.
    pub(crate) async fn fetch_own<T: DeserializeOwned>(&self, call: Call) -> Result<T, Error> {
        let operation = call.operation;
        let received = self.exchange(call).await?;
        received.of_polar(operation)?.read(operation)
    }

    /// Sends a call whose success carries nothing of interest. Without a body to read, the header is
    /// all that tells Polar's success from that of a captive portal.
    pub(crate) async fn perform(&self, call: Call) -> Result<(), Error> {
        let operation = call.operation;
        let received = self.exchange(call).await?;
        received.of_polar(operation).map(drop)
    }

    /// Fetches a file from the address that an answer of `operation` named. It is no call of Polar's API: it
    /// costs nothing of the budget, says nothing about Polar's health, and carries no token.
    pub(crate) async fn download(
        &self,
        operation: Operation,
        url: &str,
        largest: usize,
    ) -> Result<Vec<u8>, Error> {
        let refused = |reason: &str| Error::Unreadable {
            operation,
            reason: reason.to_owned(),
        };
        let url = reqwest::Url::parse(url).map_err(|_| refused("the link is no address"))?;
        let base = &self.shared.base;
        let local = base.scheme() == "http" && base.origin() == url.origin();
        if url.scheme() != "https" && !local {
            return Err(refused("the link is not encrypted"));
        }
        let sent = self.shared.files.get(url).send().await;
        let response = sent.map_err(|fault| unreachable(operation, &fault))?;
        match response.status() {
            status if status.is_success() => read(operation, response, largest).await,
            status if status.is_server_error() => Err(Error::Unavailable {
                operation,
                status: status.as_u16(),
            }),
            status => Err(refused(&format!("the link answers {}", status.as_u16()))),
        }
    }

    async fn exchange(&self, call: Call) -> Result<Received, Error> {
        let url = call.url(&self.shared.base)?;
        if self.reads_only && !call.operation.only_reads() {
            return Err(Error::NotSent {
                operation: call.operation,
                fields: call.fields(),
            });
        }
        let facts = CallFacts {
            class: self.class,
            scope: call.operation.scope(),
        };
        let permit = loop {
            let permit = self.acquire(facts).await?;
            match permit.admission {
                Admission::Call => break permit,
                Admission::Probe => self.probe(permit).await?,
            }
        };
        self.send_and_record(call, url, permit, self.subject).await
    }

    async fn acquire(&self, facts: CallFacts) -> Result<Permit<'_>, Error> {
        let limiter = &*self.shared.limiter;
        let admission = limiter.acquire(facts).await.map_err(Error::Rejected)?;
        Ok(Permit {
            limiter,
            facts,
            admission,
            answer: Answer::Abandoned,
        })
    }

    /// What comes of a probe is the limiter's business: it says next whether the call may go out.
    async fn probe(&self, mut permit: Permit<'_>) -> Result<(), Error> {
        let call = Call::new(PROBE).query("limit", 1);
        let url = call.url(&self.shared.base)?;
        permit.facts.class = CallClass::Probe;
        let outcome = self.send_and_record(call, url, permit, None).await;
        drop(outcome);
        Ok(())
    }

    async fn send_and_record(
        &self,
        call: Call,
        url: reqwest::Url,
        permit: Permit<'_>,
        subject: Option<Subject>,
    ) -> Result<Received, Error> {
        let operation = call.operation;
        let class = permit.facts.class;
        let of_session = call.token.is_some();
        let started = Instant::now();
        let outcome = self.send(call, url).await;
        tracing::debug!(
            %operation,
            %class,
            milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            error = outcome.as_ref().err().map(tracing::field::display),
            "called Polar"
        );
        permit.record(match answer(outcome.as_ref().err(), subject) {
            // A session that is refused says nothing about our own token.
            Answer::Unauthorized | Answer::MissingScope if of_session => Answer::Answered,
            answer => answer,
        });
        outcome
    }

    async fn send(&self, call: Call, url: reqwest::Url) -> Result<Received, Error> {
        let operation = call.operation;
        let mut request = self.shared.http.request(operation.http_method(), url);
        if let Some(token) = &call.token {
            request = request.header(AUTHORIZATION, session_header(operation, token)?);
        }
        if let Some(body) = call.body {
            let json = HeaderValue::from_static("application/json");
            request = request.header(CONTENT_TYPE, json).body(body);
        }
        let response = request
            .send()
            .await
            .map_err(|fault| unreachable(operation, &fault))?;
        let status = response.status();
        let headers = response.headers().clone();
        if let Some(request_ids) = &self.request_ids {
            request_ids.collect(&headers);
        }
        let body = read(operation, response, LARGEST_ANSWER).await;
        if status.is_success() {
            return body.map(|body| Received { headers, body });
        }
        // A refusal whose body cannot be read is like one without.
        let body = body.unwrap_or_default();
        let token = call.token.as_ref().unwrap_or(&self.shared.access_token);
        let redactor = Redactor::new(token.expose_secret());
        Err(refusal::read(
            &Refusal {
                operation,
                status,
                headers: &headers,
                body: &body,
            },
            &redactor,
        ))
    }
}

/// The header of a customer session, which takes the place of ours.
fn session_header(operation: Operation, token: &SecretString) -> Result<HeaderValue, Error> {
    let mut header =
        HeaderValue::from_str(&format!("Bearer {}", token.expose_secret())).map_err(|_| {
            Error::Unreadable {
                operation,
                reason: "the token of the session holds characters that no header can carry"
                    .to_owned(),
            }
        })?;
    header.set_sensitive(true);
    Ok(header)
}

/// Tells the limiter exactly once, also when the call's future is dropped half-way.
struct Permit<'a> {
    limiter: &'a dyn RateLimiter,
    facts: CallFacts,
    admission: Admission,
    answer: Answer,
}

impl Permit<'_> {
    fn record(mut self, answer: Answer) {
        self.answer = answer;
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.limiter.record(self.facts, self.admission, self.answer);
    }
}

/// Without a connection nobody saw whom the call was about, so that is nobody's own failure.
fn answer(error: Option<&Error>, subject: Option<Subject>) -> Answer {
    match error {
        Some(Error::RateLimited { retry_after, .. }) => Answer::RateLimited {
            retry_after: *retry_after,
        },
        Some(Error::Unauthorized { .. }) => Answer::Unauthorized,
        Some(Error::MissingScope { .. }) => Answer::MissingScope,
        Some(Error::Unreachable {
            cause: Interruption::Connection,
            ..
        }) => Answer::Down { subject: None },
        Some(error) if error.is_down() => Answer::Down { subject },
        _ => Answer::Answered,
    }
}

/// Reads the body piece by piece, so that an endless one is given up at the bound.
async fn read(
    operation: Operation,
    mut response: Response,
    largest: usize,
) -> Result<Vec<u8>, Error> {
    let too_large = || Error::Unreadable {
        operation,
        reason: format!("it is larger than {largest} bytes"),
    };
    if response
        .content_length()
        .is_some_and(|length| length > largest as u64)
    {
        return Err(too_large());
    }
    let mut body = Vec::new();
    while let Some(piece) = response
        .chunk()
        .await
        .map_err(|e| unreachable(operation, &e))?
    {
        if body.len() + piece.len() > largest {
            return Err(too_large());
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

/// The cause without the address, which holds ids.
fn unreachable(operation: Operation, fault: &reqwest::Error) -> Error {
    let cause = if fault.is_timeout() {
        Interruption::Timeout
    } else if fault.is_connect() {
        Interruption::Connection
    } else {
        Interruption::Broken
    };
    let mut deepest = fault.source();
    while let Some(next) = deepest.and_then(std::error::Error::source) {
        deepest = Some(next);
    }
    Error::Unreachable {
        operation,
        cause,
        detail: deepest.map(ToString::to_string),
    }
}

/// Where the JSON is wrong, without quoting it: serde's own text can hold values.
fn describe(fault: &serde_json::Error) -> String {
    let kind = match fault.classify() {
        serde_json::error::Category::Data => "a field is missing or of another kind",
        serde_json::error::Category::Eof => "it ends too early",
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => "it is no JSON",
    };
    format!("{kind} (line {}, column {})", fault.line(), fault.column())
}
