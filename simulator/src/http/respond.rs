//! Answers carry the headers Polar sends, and lack those it does not.

use crate::http::outages::Gateway;
use crate::resources::call::Reply;
use crate::resources::errors::Refusal;
use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;

/// How a request ends.
pub(crate) enum End {
    Reply(Reply),
    Refusal(Refusal),
    TooMany(u32),
    Moved(String),
    Gateway(Gateway),
    Cut,
}

/// A response with a text body, or none.
pub(crate) fn plain(status: StatusCode, text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    if !text.is_empty() {
        set(&mut response, "content-type", "text/plain; charset=utf-8");
    }
    response
}

fn set(response: &mut Response, name: &'static str, value: &str) {
    match axum::http::HeaderValue::from_str(value) {
        Ok(value) => {
            response.headers_mut().insert(name, value);
        }
        Err(error) => tracing::warn!(%error, name, "header not sent"),
    }
}

fn refuse(refusal: &Refusal) -> Response {
    let oauth = refusal.body.get("error_description").is_some();
    let caching = if oauth {
        "no-store"
    } else {
        "private, no-store"
    };
    let mut response = json_response(
        refusal.status,
        Body::from(refusal.body.to_string()),
        caching,
    );
    for (name, value) in &refusal.headers {
        set(&mut response, name, value);
    }
    // A body that is too large is turned away before the rest of the server sees it.
    if refusal.status == 413 {
        response.headers_mut().remove("cache-control");
    }
    response
}

/// Turns an end into an answer; `version` is echoed unless it was unknown.
pub(crate) fn respond(end: &End, version: Option<&str>) -> Response {
    let mut response = match end {
        End::Reply(reply) => {
            let body = reply
                .body
                .as_ref()
                .map_or_else(Body::empty, |body| Body::from(body.to_string()));
            json_response(reply.status, body, "private, no-store")
        }
        // An unhandled error is text, without the version header.
        End::Refusal(refusal) if refusal.status == 500 => {
            return plain(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error");
        }
        End::Refusal(refusal) => refuse(refusal),
        // Empty, without a content type.
        End::TooMany(seconds) => {
            let mut response = plain(StatusCode::TOO_MANY_REQUESTS, "");
            set(&mut response, "retry-after", &seconds.to_string());
            response
        }
        End::Moved(location) => {
            let mut response = plain(StatusCode::TEMPORARY_REDIRECT, "");
            set(&mut response, "location", location);
            set(&mut response, "cache-control", "private, no-store");
            response
        }
        End::Gateway(gateway) => return in_place_of_polar(gateway),
        End::Cut => plain(StatusCode::BAD_GATEWAY, ""),
    };
    match version {
        Some(version) => set(&mut response, "polar-version", version),
        // An unknown version is answered before anything else has its say.
        None => drop(response.headers_mut().remove("cache-control")),
    }
    response
}

/// Neither Polar's error body nor its version header: that is how such an answer is told apart.
fn in_place_of_polar(gateway: &Gateway) -> Response {
    let status = StatusCode::from_u16(gateway.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let reason = status.canonical_reason().unwrap_or("Error");
    let (kind, text) = if gateway.html {
        let page =
            format!("<html><head><title>{reason}</title></head><body>{reason}</body></html>");
        ("text/html", page)
    } else {
        let body = serde_json::json!({"message": reason});
        ("application/json", body.to_string())
    };
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    set(&mut response, "content-type", kind);
    set(&mut response, "server", "gateway");
    response
}

fn json_response(status: u16, body: Body, caching: &str) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    set(&mut response, "content-type", "application/json");
    set(&mut response, "cache-control", caching);
    response
}
