//! One exchange with Polar: ask the gate, send, read within bounds, tell the gate.

use std::{error::Error as _, time::Instant};

use reqwest::{
    Response,
    header::{CONTENT_TYPE, HeaderValue},
};
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;

use crate::{
    Answer, Client, Error, Gate, Interruption, Operation,
    call::Call,
    redact::Redactor,
    refusal::{self, Refusal},
};

/// The largest answer that is read. A page of a hundred subscriptions is well below 1 MiB.
const LARGEST_ANSWER: usize = 16 * 1024 * 1024;

impl Client {
    /// Sends a call whose success carries a body.
    pub(crate) async fn fetch<T: DeserializeOwned>(&self, call: Call) -> Result<T, Error> {
        let operation = call.operation;
        let body = self.exchange(call).await?;
        serde_json::from_slice(&body).map_err(|fault| Error::Unreadable {
            operation,
            reason: describe(&fault),
        })
    }

    /// Sends a call whose success carries nothing of interest.
    pub(crate) async fn perform(&self, call: Call) -> Result<(), Error> {
        self.exchange(call).await.map(drop)
    }

    async fn exchange(&self, call: Call) -> Result<Vec<u8>, Error> {
        let operation = call.operation;
        let url = call.url(&self.shared.base)?;
        self.shared
            .gate
            .enter(self.class)
            .await
            .map_err(Error::Held)?;
        let passage = Passage {
            gate: &*self.shared.gate,
            answer: Answer::Abandoned,
        };
        let started = Instant::now();
        let outcome = self.send(call, url).await;
        tracing::debug!(
            %operation,
            class = %self.class,
            milliseconds = started.elapsed().as_millis(),
            error = outcome.as_ref().err().map(tracing::field::display),
            "called Polar"
        );
        passage.leave(answer(&outcome));
        outcome
    }

    async fn send(&self, call: Call, url: reqwest::Url) -> Result<Vec<u8>, Error> {
        let operation = call.operation;
        let mut request = self.shared.http.request(operation.http_method(), url);
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
        let body = read(operation, response).await;
        if status.is_success() {
            return body;
        }
        // A refusal whose body cannot be read is still that refusal.
        let body = body.unwrap_or_default();
        let redactor = Redactor::new(self.shared.access_token.expose_secret());
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

/// Tells the gate exactly once, also when the call's future is dropped half-way.
struct Passage<'a> {
    gate: &'a dyn Gate,
    answer: Answer,
}

impl Passage<'_> {
    fn leave(mut self, answer: Answer) {
        self.answer = answer;
    }
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        self.gate.left(self.answer);
    }
}

fn answer(outcome: &Result<Vec<u8>, Error>) -> Answer {
    match outcome {
        Err(Error::RateLimited { retry_after, .. }) => Answer::RateLimited {
            retry_after: *retry_after,
        },
        Err(Error::Unauthorized { .. }) => Answer::Unauthorized,
        Err(error) if error.is_down() => Answer::Down,
        _ => Answer::Answered,
    }
}

/// Reads the body piece by piece, so that an endless one is given up at the bound.
async fn read(operation: Operation, mut response: Response) -> Result<Vec<u8>, Error> {
    let too_large = || Error::Unreadable {
        operation,
        reason: format!("it is larger than {LARGEST_ANSWER} bytes"),
    };
    if response
        .content_length()
        .is_some_and(|length| length > LARGEST_ANSWER as u64)
    {
        return Err(too_large());
    }
    let mut body = Vec::new();
    while let Some(piece) = response
        .chunk()
        .await
        .map_err(|e| unreachable(operation, &e))?
    {
        if body.len() + piece.len() > LARGEST_ANSWER {
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
