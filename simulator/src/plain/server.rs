//! One route that answers 200 to nearly everything. What is refused with a status, and what inside the answer, is what
//! a client must tell apart.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};

use super::document::{self, Document};
use super::faults::{PlainFault, PlainOutage};
use super::operations::{self, Refused};
use super::{PlainRequestRecord, Shared, locked};
use crate::http::hold::Point;

/// Larger bodies are not read.
const READ_LIMIT: usize = 1 << 20;

pub(in crate::plain) async fn handle(
    State(shared): State<Arc<Shared>>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, READ_LIMIT).await else {
        return answer(StatusCode::PAYLOAD_TOO_LARGE, &Value::Null);
    };
    match (&parts.method, parts.uri.path()) {
        (&Method::GET, "/simulator/state") => {
            let store = locked(&shared.store);
            let state = json!({"tenants": store.tenants(), "customers": store.customers()});
            answer(StatusCode::OK, &state)
        }
        (&Method::GET, "/simulator/requests") => {
            let requests = json!(locked(&shared.store).requests);
            answer(StatusCode::OK, &requests)
        }
        (&Method::POST, "/simulator/outage") => set_outage(&shared, &body),
        (&Method::POST, "/graphql/v1") => graphql(&shared, &parts.headers, &body).await,
        _ => answer(StatusCode::NOT_FOUND, &Value::Null),
    }
}

fn set_outage(shared: &Shared, body: &Bytes) -> Response {
    let wanted = serde_json::from_slice::<Value>(body).unwrap_or_default();
    match serde_json::from_value(wanted["outage"].clone()) {
        Ok(outage) => {
            locked(&shared.faults).outage = outage;
            answer(StatusCode::OK, &wanted)
        }
        Err(error) => answer(StatusCode::UNPROCESSABLE_ENTITY, &json!(error.to_string())),
    }
}

async fn graphql(shared: &Shared, headers: &HeaderMap, body: &Bytes) -> Response {
    let request: Value = serde_json::from_slice(body).unwrap_or_default();
    let document = document::parse(request["query"].as_str().unwrap_or_default());
    let operation = document.as_ref().map_or("", |document| &document.field);
    let variables = &request["variables"];
    let mut record = PlainRequestRecord {
        operation: operation.to_owned(),
        variables: variables.clone(),
        status: 0,
        refused: None,
    };
    let path = format!("{operation} {variables}");
    shared.holds.pass("POST", &path, Point::Arrival).await;
    let outage = locked(&shared.faults).outage;
    let response = match outage {
        Some(PlainOutage::Unavailable) => answer(StatusCode::SERVICE_UNAVAILABLE, &Value::Null),
        Some(PlainOutage::Page) => Response::new(Body::from("<!doctype html>")),
        Some(PlainOutage::Silent) => {
            locked(&shared.store).requests.push(record);
            return std::future::pending().await;
        }
        None if !is_authorized(shared, headers) => answer(
            StatusCode::UNAUTHORIZED,
            &json!({"message": "Unauthorized"}),
        ),
        None => {
            let (response, refused) = respond(shared, document.as_ref(), variables);
            shared.holds.pass("POST", &path, Point::Answer).await;
            record.refused = refused;
            response
        }
    };
    record.status = response.status().as_u16();
    locked(&shared.store).requests.push(record);
    response
}

fn is_authorized(shared: &Shared, headers: &HeaderMap) -> bool {
    let wanted = format!("Bearer {}", locked(&shared.token));
    headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        == Some(&*wanted)
}

/// The response, and the code of a refusal inside it.
fn respond(
    shared: &Shared,
    document: Option<&Document>,
    variables: &Value,
) -> (Response, Option<String>) {
    let Some(document) = document else {
        return (errors("Syntax Error"), None);
    };
    if operations::is_mutation(&document.field) != Some(document.mutation) {
        let words = format!("Cannot query field \"{}\"", document.field);
        return (errors(&words), None);
    }
    let fault = {
        let mut faults = locked(&shared.faults);
        let broken = faults.broken.clone();
        if broken.is_some_and(|text| variables.to_string().contains(&text)) {
            return (
                answer(StatusCode::INTERNAL_SERVER_ERROR, &Value::Null),
                None,
            );
        }
        faults.take(&document.field)
    };
    let (whole, refused) = match fault {
        Some(PlainFault::Refused(code)) => {
            let words = "Refused for maria@example.com because a test wants it";
            (operations::refusal(&Refused(code, words)), Some(code))
        }
        Some(PlainFault::Errors) => return (errors("Something went wrong"), None),
        Some(PlainFault::Empty) => {
            let nothing = json!({"result": null, "customer": null, "tenant": null, "error": null});
            (nothing, None)
        }
        Some(PlainFault::Odd) => return (answer(StatusCode::OK, &json!([])), None),
        Some(PlainFault::TooMany(seconds)) => return (too_many(seconds), None),
        lost_or_none => {
            let mut store = locked(&shared.store);
            let (whole, refused) = operations::perform(&mut store, &document.field, variables);
            if lost_or_none == Some(PlainFault::AnswerLost) {
                return (answer(StatusCode::BAD_GATEWAY, &Value::Null), None);
            }
            (whole, refused)
        }
    };
    match document.selection.of(&whole) {
        Ok(chosen) => {
            let data = json!({"data": {document.field.as_str(): chosen}});
            (answer(StatusCode::OK, &data), refused.map(str::to_owned))
        }
        Err(field) => (errors(&format!("Cannot query field \"{field}\"")), None),
    }
}

fn errors(message: &str) -> Response {
    answer(StatusCode::OK, &json!({"errors": [{"message": message}]}))
}

fn too_many(seconds: u32) -> Response {
    let mut response = answer(StatusCode::TOO_MANY_REQUESTS, &Value::Null);
    response.headers_mut().insert("retry-after", seconds.into());
    response
}

fn answer(status: StatusCode, body: &Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    let json = axum::http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}
