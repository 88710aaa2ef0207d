//! The billing page of `dev`: an integrator's example, and a place to click. A small application of its own on another
//! port: static files, and the one thing that only an application can do, signing a token for who is signed in. All
//! else the page asks the organizations API for, from the browser.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use jsonwebtoken::{EncodingKey, Header};
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use uuid::Uuid;

use super::fixtures::{Company, Fixtures};
use crate::api::hs256;
use crate::config::AppSettings;

const INDEX: &str = include_str!("index.html");
const PAGE: &str = include_str!("billing.js");
const API: &str = include_str!("api.js");
const MONEY: &str = include_str!("money.js");
const STYLE: &str = include_str!("billing.css");
/// Whom the tokens are for.
const AUDIENCE: &str = "polar-jobs";
/// How long a token is good for, in seconds: it is in a page, so not for long. The page asks for another.
const TOKEN_LIFE: u64 = 300;
/// Signs the tokens where `APP_SESSION_SECRET` is not set: both servers listen on this machine only.
const SESSION_SECRET: &str = "dev-session-secret-for-this-machine-only";

/// The page's socket: its address is a setting of the ingress, which starts first.
pub(super) struct BillingPage {
    listener: TcpListener,
    address: SocketAddr,
}

impl BillingPage {
    /// Takes an address; port 0 is a free one.
    pub(super) async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// The page's address, and its origin.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lets the page call the organizations API and be returned to from a checkout. What was set stays; returns what was
    /// not, by the names of the settings.
    pub(super) fn allow(&self, app: &mut AppSettings) -> Vec<(&'static str, String)> {
        let mut brought = Vec::new();
        if app.origins.is_empty() {
            brought.push(("APP_ORIGINS", self.url()));
        }
        app.origins.push(self.url());
        if app.url.is_none() {
            app.url = Url::parse(&self.url()).ok();
            brought.push(("APP_URL", self.url()));
        }
        if app.session_secret.is_none() {
            app.session_secret = Some(SecretString::from(SESSION_SECRET));
            brought.push(("APP_SESSION_SECRET", SESSION_SECRET.to_owned()));
        }
        brought
    }

    /// Serves until dropped; people of `fixtures` are signed in, for calls to the ingress at `api`.
    pub(super) async fn serve(
        self,
        api: SocketAddr,
        secret: SecretString,
        fixtures: &Fixtures,
    ) -> io::Result<()> {
        let companies = fixtures.companies().into_iter();
        let staying = companies.filter(|company| !company.expected.has_left());
        let application = Application {
            host: self.address.to_string(),
            api: format!("http://{api}"),
            key: EncodingKey::from_secret(secret.expose_secret().as_bytes()),
            people: staying.map(Person::of).collect(),
        };
        let application = Arc::new(application);
        let router = Router::new()
            .route(
                "/",
                get(|| async { file("text/html; charset=utf-8", INDEX) }),
            )
            .route(
                "/billing.js",
                get(|| async { file("text/javascript", PAGE) }),
            )
            .route("/api.js", get(|| async { file("text/javascript", API) }))
            .route(
                "/money.js",
                get(|| async { file("text/javascript", MONEY) }),
            )
            .route("/billing.css", get(|| async { file("text/css", STYLE) }))
            .route("/session", get(session))
            .layer(middleware::from_fn_with_state(
                Arc::clone(&application),
                guard,
            ))
            .with_state(application);
        axum::serve(self.listener, router).await
    }
}

/// What an application knows that a page does not.
struct Application {
    host: String,
    api: String,
    key: EncodingKey,
    people: Vec<Person>,
}

/// Somebody who could be signed in: the owner of an organization.
struct Person {
    user: Uuid,
    organization: Uuid,
    name: &'static str,
}

impl Person {
    fn of(company: &Company) -> Self {
        Self {
            user: company.owner.id,
            organization: company.id,
            name: company.name,
        }
    }
}

#[derive(Deserialize)]
struct Wanted {
    organization: Option<Uuid>,
}

#[derive(Serialize)]
struct Claims {
    sub: Uuid,
    aud: &'static str,
    exp: u64,
}

/// Who is signed in, with a fresh token. An application would look at its own session here.
async fn session(
    State(application): State<Arc<Application>>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Value>, StatusCode> {
    let mut people = application.people.iter();
    let person = match wanted.organization {
        Some(id) => people.find(|person| person.organization == id),
        None => people.next_back(),
    };
    let person = person.ok_or(StatusCode::NOT_FOUND)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let claims = Claims {
        sub: person.user,
        aud: AUDIENCE,
        exp: now.map_or(0, |now| now.as_secs()) + TOKEN_LIFE,
    };
    hs256::install();
    let token = jsonwebtoken::encode(&Header::default(), &claims, &application.key);
    let token = token.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    let one = |person: &Person| json!({"id": person.organization, "name": person.name});
    let organizations: Vec<Value> = application.people.iter().map(one).collect();
    Ok(Json(json!({
        "api": application.api, "organization_id": person.organization, "token": token,
        "organizations": organizations,
    })))
}

/// Answers only under the page's own name, so that no foreign page reaches it by a name that resolves to this machine,
/// and lets the page load and call nothing but what it is made of.
async fn guard(
    State(application): State<Arc<Application>>,
    headers: HeaderMap,
    request: axum::extract::Request,
    next: middleware::Next,
) -> Response {
    let host = headers.get(header::HOST);
    if host.is_none_or(|host| host.as_bytes() != application.host.as_bytes()) {
        return StatusCode::MISDIRECTED_REQUEST.into_response();
    }
    let mut response = next.run(request).await;
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self' {}; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        application.api
    );
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}

fn file(kind: &'static str, text: &'static str) -> ([(HeaderName, &'static str); 1], &'static str) {
    ([(header::CONTENT_TYPE, kind)], text)
}
