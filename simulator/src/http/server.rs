//! Every request goes the same way: version, call count, credentials, route, scope, hold, fault, commit, hold,
//! fault, answer. What is refused where is part of what a client must cope with.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};

use crate::faults::CallFault;
use crate::http::access::{self, Credentials};
use crate::http::connection::Cord;
use crate::http::hold::Point;
use crate::http::interventions::intervene;
use crate::http::outages::Gateway;
use crate::http::respond::{End, plain, respond};
use crate::http::route::{Caller, Route};
use crate::http::routes::{self, Found};
use crate::http::shared::Shared;
use crate::http::{checkout_pages, control, start_page};
use crate::records::RequestRecord;
use crate::resources::call::Call;
use crate::resources::errors::{Fault, Refusal};

/// Bodies up to here are answered at all.
const READ_LIMIT: usize = 64 << 20;
/// Larger bodies are refused with 413.
const BODY_LIMIT: usize = 10 << 20;

/// Answers a request. The work goes on even when the client gives up waiting, as it does at Polar.
pub(crate) async fn handle(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(cord): ConnectInfo<Cord>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, READ_LIMIT).await else {
        return plain(StatusCode::PAYLOAD_TOO_LARGE, "");
    };
    if matches!(parts.uri.path(), "/" | "/simulator" | "/simulator/") {
        return start_page::show(&shared);
    }
    if parts.uri.path().starts_with("/simulator/") {
        return control::handle(&shared, &parts, &body).await;
    }
    if parts.uri.path().starts_with("/checkout/") {
        return checkout_pages::handle(&shared, &parts, &body);
    }
    let work = tokio::spawn(async move { answer(&shared, &cord, &parts, body).await });
    work.await
        .unwrap_or_else(|_| plain(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error"))
}

async fn answer(shared: &Arc<Shared>, cord: &Cord, parts: &Parts, body: Bytes) -> Response {
    let number = note(shared, parts, &body);
    let asked = text(&parts.headers, "polar-version");
    let version = access::version(asked);
    let end = match (shared.outages.gateway(parts.uri.path()), version) {
        (Some(gateway), _) => End::Gateway(gateway),
        (None, None) => End::Refusal(Refusal::no_such_path()),
        (None, Some(_)) => answer_version(shared, parts, &body).await,
    };
    let response = respond(&end, version);
    let mut store = shared.lock();
    if let Some(record) = store.requests.get_mut(number) {
        record.status = (!matches!(end, End::Cut)).then(|| response.status().as_u16());
    }
    if matches!(end, End::Cut) {
        cord.pull();
    }
    response
}

/// Writes the request down before anything else happens to it.
fn note(shared: &Shared, parts: &Parts, body: &Bytes) -> usize {
    let header = |name: &str| text(&parts.headers, name).map(str::to_owned);
    let mut store = shared.lock();
    let record = RequestRecord {
        method: parts.method.as_str().to_owned(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        status: None,
        version: header("polar-version"),
        authorization: header(AUTHORIZATION.as_str()),
        content_type: header(CONTENT_TYPE.as_str()),
        body: serde_json::from_slice(body).unwrap_or(Value::Null),
        at: store.now(),
    };
    store.requests.push(record);
    store.requests.len() - 1
}

async fn answer_version(shared: &Arc<Shared>, parts: &Parts, body: &Bytes) -> End {
    let authorization = text(&parts.headers, AUTHORIZATION.as_str());
    let elapsed = shared.lock().clock.elapsed();
    if !shared.access.count(authorization, elapsed) {
        return End::TooMany(60);
    }
    let credentials = shared.access.credentials(authorization);
    let member = shared.lock().session_member(authorization);
    let dead_session = credentials == Credentials::Session && member.is_none();
    if credentials == Credentials::Unknown || dead_session {
        return End::Refusal(Refusal::invalid_token());
    }
    let path = parts.uri.path();
    match routes::find(parts.method.as_str(), path) {
        Found::Nothing => End::Refusal(Refusal::no_such_path()),
        Found::Elsewhere(other) => {
            let query = parts
                .uri
                .query()
                .map_or(String::new(), |query| format!("?{query}"));
            End::Moved(format!("{}{other}{query}", base_url(&parts.headers)))
        }
        Found::WrongMethod(allowed) => End::Refusal(Refusal::wrong_method(allowed)),
        Found::Route(route, places) => {
            meet(shared, parts, Point::Arrival).await;
            let admitted = admit(&credentials, route);
            let call = admitted.and_then(|foreign| {
                let mut call = read_call(shared, parts, body, places, foreign)?;
                call.member = member;
                Ok((foreign, call))
            });
            match call {
                Ok((foreign, call)) => perform(shared, parts, route, &call, foreign).await,
                Err(refusal) => End::Refusal(refusal),
            }
        }
    }
}

/// Whether these credentials may use a route; says whether it belongs to another organization.
fn admit(credentials: &Credentials, route: &Route) -> Result<bool, Refusal> {
    let (foreign, scopes) = match (credentials, route.caller) {
        (Credentials::Session, Caller::Member) => return Ok(false),
        (Credentials::Known { foreign, scopes }, Caller::Organization) => (foreign, scopes),
        _ => return Err(Refusal::unauthorized()),
    };
    let held = |scope: &&str| scopes.iter().flatten().any(|own| own == scope);
    if scopes.is_some() && !route.scopes.iter().any(held) {
        return Err(Refusal::insufficient_scope(route.scopes));
    }
    Ok(*foreign)
}

fn read_call(
    shared: &Shared,
    parts: &Parts,
    body: &Bytes,
    params: Vec<String>,
    foreign: bool,
) -> Result<Call, Refusal> {
    if body.len() > BODY_LIMIT {
        let detail =
            format!("Request body exceeded the maximum allowed size of {BODY_LIMIT} bytes.");
        return Err(Refusal::named(413, "RequestBodyTooLarge", detail));
    }
    let arrival = shared.lock_for(foreign).revision;
    let (query, body) = (read_query(parts), read_body(&parts.headers, body)?);
    Ok(Call {
        params,
        query,
        body,
        arrival,
        member: None,
        base_url: base_url(&parts.headers),
    })
}

fn read_query(parts: &Parts) -> Vec<(String, String)> {
    axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
        .map(|query| query.0)
        .unwrap_or_default()
}

/// A body of another content type reaches the schema as text, as recorded.
fn read_body(headers: &HeaderMap, body: &Bytes) -> Result<Value, Refusal> {
    if body.is_empty() {
        return Ok(Value::Null);
    }
    if text(headers, CONTENT_TYPE.as_str()).is_some_and(|kind| !kind.contains("json")) {
        return Ok(Value::String(String::from_utf8_lossy(body).into_owned()));
    }
    serde_json::from_slice(body).map_err(|error| {
        let loc = vec!["body".into(), error.column().into()];
        let fault = Fault::new("json_invalid", loc, "JSON decode error", json!({}));
        Refusal::schema(vec![fault.context(json!({"error": "Expecting value"}))])
    })
}

async fn perform(
    shared: &Arc<Shared>,
    parts: &Parts,
    route: &Route,
    call: &Call,
    foreign: bool,
) -> End {
    let (fault, hold, retry_after, elapsed) = {
        let mut store = shared.lock();
        let elapsed = store.clock.elapsed();
        let outbox = &mut store.outbox;
        let fault = outbox.faults.roll_call(&mut outbox.dice);
        let (hold, retry_after) = (outbox.faults.timeout_hold, outbox.faults.retry_after);
        (fault, hold, retry_after, elapsed)
    };
    let (_counted, stalled) = shared.outages.enter(shared.stall_above, elapsed);
    if stalled {
        tokio::time::sleep(hold).await;
        return End::Refusal(Refusal::internal());
    }
    meet(shared, parts, Point::Commit).await;
    match fault {
        Some(CallFault::TooManyRequests) => return End::TooMany(retry_after),
        Some(CallFault::ErrorBefore) => return End::Refusal(Refusal::internal()),
        Some(CallFault::DropBefore) => return End::Cut,
        Some(CallFault::TimeoutBefore) => {
            tokio::time::sleep(hold).await;
            return End::Cut;
        }
        _ => {}
    }
    let failure = shared.outages.failure(&shared.lock(), call);
    if let Some(status) = failure {
        return failed_with(status, retry_after);
    }
    let outcome = (route.handler)(&mut shared.lock_for(foreign), call);
    meet(shared, parts, Point::Answer).await;
    match (fault, outcome) {
        (Some(CallFault::ErrorAfter), _) => End::Refusal(Refusal::internal()),
        (Some(CallFault::DropAfter), _) => End::Cut,
        (Some(CallFault::TimeoutAfter), _) => {
            tokio::time::sleep(hold).await;
            End::Cut
        }
        (_, Ok(reply)) => End::Reply(reply),
        (_, Err(refusal)) => End::Refusal(refusal),
    }
}

/// How a failure looks that was asked for by its status: refusals are Polar's own, and what a gateway in front of it says
/// lacks what Polar's answers have.
fn failed_with(status: u16, retry_after: u32) -> End {
    match status {
        500 => End::Refusal(Refusal::internal()),
        401 => End::Refusal(Refusal::invalid_token()),
        429 => End::TooMany(retry_after),
        501.. => End::Gateway(Gateway {
            status,
            html: true,
            path: String::new(),
        }),
        status => End::Refusal(Refusal::named(
            status,
            "Simulated",
            "The simulator was asked to refuse this call.",
        )),
    }
}

/// Waits where a test holds requests, then lets happen what it armed.
async fn meet(shared: &Arc<Shared>, parts: &Parts, point: Point) {
    let (method, path) = (parts.method.as_str(), parts.uri.path());
    shared.holds.pass(method, path, point).await;
    intervene(shared, method, path, point).await;
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn base_url(headers: &HeaderMap) -> String {
    format!(
        "http://{}",
        text(headers, HOST.as_str()).unwrap_or("127.0.0.1")
    )
}
