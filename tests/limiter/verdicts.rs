//! What happens next to a job whose call was answered like this: every status and every name of an
//! error that Polar is known to give, by the client and the verdict together.

use std::collections::BTreeSet;
use std::future::IntoFuture;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Response;
use jobs::contract::{Error, Verdict};
use serde_json::Value;
use tokio::net::TcpListener;

use crate::local_polar::client_config;

/// What happens next, without the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    /// Again after a growing delay; uses up an attempt.
    Retry,
    /// Again after so many seconds; uses up none.
    Wait(u64),
    /// The end.
    Discard,
}

use Next::{Discard, Retry, Wait};

#[derive(Clone)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Answer {
    fn polars(status: u16, error: &str) -> Self {
        let version = ("polar-version".to_owned(), polar::API_VERSION.to_owned());
        Self {
            status,
            headers: vec![version],
            body: format!(r#"{{"error": "{error}", "detail": "some words"}}"#),
        }
    }

    fn somebodys(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: r#"{"error": "Nope", "detail": "some words"}"#.to_owned(),
        }
    }
}

/// What happens to a job whose call is answered like this.
async fn next(answer: &Answer) -> Next {
    let answer = answer.clone();
    let handler = move || {
        let mut response = Response::builder().status(answer.status);
        for (name, value) in &answer.headers {
            response = response.header(name, value);
        }
        let response = response.body(Body::from(answer.body.clone())).unwrap();
        async move { response }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    let served = axum::serve(listener, axum::Router::new().fallback(handler));
    let server = tokio::spawn(served.into_future());
    let config = client_config(base_url, "polar_oat_test", Duration::from_secs(20));
    let client = polar::Client::new(config, Arc::new(polar::Unlimited)).unwrap();
    let error = client
        .customers()
        .get_by_external_id("o")
        .await
        .unwrap_err();
    server.abort();
    match Error::from(error).verdict() {
        Verdict::Retry { .. } => Retry,
        Verdict::Wait { after, .. } => Wait(after.as_secs()),
        Verdict::Discard { .. } => Discard,
    }
}

#[tokio::test]
async fn every_status_and_name_of_polars_leads_to_what_is_right_for_it() {
    for (status, error, expected) in [
        (307, "", Retry),
        (400, "BadRequest", Discard),
        (400, "PaymentMethodInUseByActiveSubscription", Discard),
        (401, "Unauthorized", Wait(60)),
        (401, "invalid_token", Wait(60)),
        (402, "PaymentFailed", Discard),
        (403, "NotPermitted", Discard),
        (403, "AlreadyCanceledSubscription", Discard),
        (403, "InactiveSubscription", Discard),
        (403, "insufficient_scope", Wait(60)),
        (404, "ResourceNotFound", Discard),
        (404, "InvoiceDoesNotExist", Discard),
        (409, "SubscriptionLocked", Retry),
        (409, "OrderNotEligibleForInvoice", Discard),
        (409, "AmbiguousExternalCustomerID", Discard),
        (413, "RequestBodyTooLarge", Discard),
        (422, "RequestValidationError", Discard),
        (422, "PolarRequestValidationError", Discard),
        (422, "MissingInvoiceBillingDetails", Discard),
        (429, "", Wait(60)),
        (500, "", Retry),
        (502, "", Retry),
        (503, "", Retry),
        (504, "", Retry),
        (599, "", Retry),
    ] {
        let verdict = next(&Answer::polars(status, error)).await;
        assert_eq!(verdict, expected, "{status} {error}");
    }
}

/// The same refusals from a gateway or proxy: its words say nothing about the job.
#[tokio::test]
async fn what_something_in_between_says_is_final_for_no_job() {
    for status in 400..=599 {
        let expected = match status {
            401 | 429 => Wait(60),
            _ => Retry,
        };
        assert_eq!(next(&Answer::somebodys(status)).await, expected, "{status}");
    }
    // A success that is not what was asked for: a captive portal, a maintenance page.
    for status in [200, 201, 204, 206] {
        assert_eq!(next(&Answer::somebodys(status)).await, Retry, "{status}");
    }
}

#[tokio::test]
async fn every_recorded_refusal_is_in_the_table_above() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("polar/tests/recordings");
    let mut seen = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let recorded: Value =
            serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let response = &recorded["response"];
        let status = response["status"].as_u64().unwrap_or(200) as u16;
        if status < 300 {
            continue;
        }
        let headers = response["headers"].as_object().unwrap();
        let kept = headers
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "content-length" | "date"))
            .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()));
        let answer = Answer {
            status,
            headers: kept.collect(),
            body: match &response["body"] {
                Value::String(text) => text.clone(),
                json => json.to_string(),
            },
        };
        let name = response["body"]["error"].as_str().unwrap_or("").to_owned();
        seen.insert((status, name, next(&answer).await));
    }
    let expected = [
        (307, "", Retry),
        (400, "BadRequest", Discard),
        (401, "Unauthorized", Wait(60)),
        (401, "invalid_token", Wait(60)),
        (402, "PaymentFailed", Discard),
        (403, "NotPermitted", Discard),
        (403, "insufficient_scope", Wait(60)),
        // A route or a version that Polar does not know: ours to repair.
        (404, "", Retry),
        (404, "InvoiceDoesNotExist", Discard),
        (404, "ResourceNotFound", Discard),
        (405, "", Retry),
        (409, "OrderNotEligibleForInvoice", Discard),
        (422, "MissingInvoiceBillingDetails", Discard),
        (422, "PolarRequestValidationError", Discard),
        (422, "RequestValidationError", Discard),
        (429, "", Wait(60)),
        (500, "", Retry),
    ];
    let expected = expected.map(|(status, name, next)| (status, name.to_owned(), next));
    assert_eq!(seen, BTreeSet::from(expected));
}
