//! The client: where Polar is, who we are, and which budget a call draws from.
//!
//! It makes each call once. Redirects are not followed, because following one loses the token or
//! the body, and only a wrong route causes one. When to try again is decided above, where
//! the waiting is durable.

use std::{fmt, sync::Arc, time::Duration};

use reqwest::{
    Url,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
    redirect,
};
use secrecy::{ExposeSecret, SecretString};

use crate::{
    BenefitGrants, CallClass, Checkouts, CustomerPortal, CustomerSession, CustomerSessions,
    Customers, Discounts, Events, Members, Orders, Organizations, Products, RateLimiter,
    RequestIds, Subject, Subscriptions, WebhookEndpoints, refusal::VERSION,
};

/// The version of Polar's API that this crate is written for: what [`ClientConfig::version`] is unless somebody chose
/// another one.
pub const API_VERSION: &str = "2026-04";

/// The longest that fetching a file may take: it may be a hundred times as large as an answer.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(20);

/// What a client needs to know.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Where Polar is, such as `https://api.polar.sh`.
    pub base_url: String,
    /// An organization access token.
    pub access_token: SecretString,
    /// Sent as `Polar-Version`; usually [`API_VERSION`].
    pub version: String,
    /// The longest that one call may take, from connecting to the last byte. 5 s is usual.
    pub timeout: Duration,
    /// Says who calls.
    pub user_agent: String,
}

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The address is no `http` or `https` URL.
    #[error("the base URL must start with https:// or http:// and name a host")]
    BaseUrl,
    /// The token has characters that no header can carry, or is empty.
    #[error("the access token is empty or holds characters that no header can carry")]
    AccessToken,
    /// The version has characters that no header can carry.
    #[error("the API version {0:?} holds characters that no header can carry")]
    Version(String),
    /// The user agent, or the TLS set-up of the machine, is unusable.
    #[error("the HTTP client cannot be set up ({0}); are the system's CA certificates installed?")]
    Http(#[source] reqwest::Error),
}

/// Polar's API. Cheap to clone; clones share connections and rate limiter.
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
    pub(crate) class: CallClass,
    pub(crate) subject: Option<Subject>,
    pub(crate) reads_only: bool,
    pub(crate) request_ids: Option<RequestIds>,
}

pub(crate) struct Shared {
    pub(crate) http: reqwest::Client,
    /// For files that lie elsewhere: without our token.
    pub(crate) files: reqwest::Client,
    pub(crate) base: Url,
    pub(crate) limiter: Arc<dyn RateLimiter>,
    pub(crate) access_token: SecretString,
}

impl Client {
    /// A client whose calls draw from [`CallClass::Entitlement`]; see [`Client::with_class`].
    ///
    /// # Errors
    /// When the configuration cannot be used; the error names the part, never the token.
    pub fn new(config: ClientConfig, limiter: Arc<dyn RateLimiter>) -> Result<Self, BuildError> {
        let base = Url::parse(&config.base_url).map_err(|_| BuildError::BaseUrl)?;
        if !matches!(base.scheme(), "http" | "https") || base.query().is_some() {
            return Err(BuildError::BaseUrl);
        }
        // Fails only when somebody installed a provider before us, which then serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let plain = |timeout| {
            let http = reqwest::Client::builder()
                .user_agent(config.user_agent.as_str())
                .timeout(timeout)
                .redirect(redirect::Policy::none())
                .retry(reqwest::retry::never());
            match base.scheme() {
                // A local Polar must work on a machine without certificates.
                "http" => http.tls_certs_only([]),
                _ => http,
            }
        };
        let http = plain(config.timeout).default_headers(headers(&config)?);
        let files = plain(DOWNLOAD_TIMEOUT).build().map_err(BuildError::Http)?;
        Ok(Self {
            shared: Arc::new(Shared {
                http: http.build().map_err(BuildError::Http)?,
                files,
                base,
                limiter,
                access_token: config.access_token,
            }),
            class: CallClass::Entitlement,
            subject: None,
            reads_only: false,
            request_ids: None,
        })
    }

    /// The same client, its calls drawing from another part of the fleet's budget.
    #[must_use]
    pub fn with_class(&self, class: CallClass) -> Self {
        Self {
            class,
            ..self.clone()
        }
    }

    /// The same client for calls about one customer, by whichever id: what fails for one customer
    /// only must not look as if Polar were down. Calls of a client without a subject are about
    /// nobody in particular.
    #[must_use]
    pub fn with_subject(&self, id: &str) -> Self {
        Self {
            subject: Some(Subject::of(id)),
            ..self.clone()
        }
    }

    /// The same client for looking only: what could change something is not sent and ends as
    /// [`Error::NotSent`](crate::Error::NotSent).
    #[must_use]
    pub fn read_only(&self) -> Self {
        Self {
            reads_only: true,
            ..self.clone()
        }
    }

    /// The same client, which keeps the ids that Polar gives its calls.
    #[must_use]
    pub fn with_request_ids(&self, request_ids: RequestIds) -> Self {
        Self {
            request_ids: Some(request_ids),
            ..self.clone()
        }
    }

    /// Customers.
    #[must_use]
    pub fn customers(&self) -> Customers<'_> {
        Customers(self)
    }

    /// Members of customers.
    #[must_use]
    pub fn members(&self) -> Members<'_> {
        Members(self)
    }

    /// Subscriptions.
    #[must_use]
    pub fn subscriptions(&self) -> Subscriptions<'_> {
        Subscriptions(self)
    }

    /// Products.
    #[must_use]
    pub fn products(&self) -> Products<'_> {
        Products(self)
    }

    /// Benefit grants.
    #[must_use]
    pub fn benefit_grants(&self) -> BenefitGrants<'_> {
        BenefitGrants(self)
    }

    /// Usage and cost events.
    #[must_use]
    pub fn events(&self) -> Events<'_> {
        Events(self)
    }

    /// Organizations.
    #[must_use]
    pub fn organizations(&self) -> Organizations<'_> {
        Organizations(self)
    }

    /// Orders and invoices.
    #[must_use]
    pub fn orders(&self) -> Orders<'_> {
        Orders(self)
    }

    /// Checkouts.
    #[must_use]
    pub fn checkouts(&self) -> Checkouts<'_> {
        Checkouts(self)
    }

    /// Discounts.
    #[must_use]
    pub fn discounts(&self) -> Discounts<'_> {
        Discounts(self)
    }

    /// Customer sessions.
    #[must_use]
    pub fn customer_sessions(&self) -> CustomerSessions<'_> {
        CustomerSessions(self)
    }

    /// The customer portal, as the member of `session` has it.
    #[must_use]
    pub fn customer_portal<'a>(&'a self, session: &'a CustomerSession) -> CustomerPortal<'a> {
        CustomerPortal {
            client: self,
            session,
        }
    }

    /// Webhook endpoints.
    #[must_use]
    pub fn webhook_endpoints(&self) -> WebhookEndpoints<'_> {
        WebhookEndpoints(self)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("host", &self.shared.base.host_str())
            .field("class", &self.class)
            .finish_non_exhaustive()
    }
}

fn headers(config: &ClientConfig) -> Result<HeaderMap, BuildError> {
    let token = config.access_token.expose_secret();
    if token.is_empty() {
        return Err(BuildError::AccessToken);
    }
    let mut authorization =
        HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| BuildError::AccessToken)?;
    authorization.set_sensitive(true);
    let version = HeaderValue::from_str(&config.version)
        .map_err(|_| BuildError::Version(config.version.clone()))?;
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, authorization);
    headers.insert(VERSION, version);
    Ok(headers)
}
