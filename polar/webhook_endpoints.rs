//! Webhook endpoints: whether Polar still delivers to us. After ten failed events it stops, and
//! what happens while it is stopped is not even recorded.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::{
    Client, Error, Operation, WebhookEndpointId,
    call::Call,
    page::{self, Identified},
};

// These routes, unlike other collections, have no trailing slash.
const LIST: Operation = Operation::get("/v1/webhooks/endpoints");
const GET: Operation = Operation::get("/v1/webhooks/endpoints/{id}");
const CREATE: Operation = Operation::post("/v1/webhooks/endpoints");
const UPDATE: Operation = Operation::patch("/v1/webhooks/endpoints/{id}");
const ATTEMPTS: Operation = Operation::get("/v1/webhooks/deliveries");
const REDELIVER: Operation = Operation::post("/v1/webhooks/events/{id}/redeliver");

/// An endpoint as Polar holds it. Its secret is in the answer too and is left there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookEndpoint {
    /// Polar's id.
    pub id: WebhookEndpointId,
    /// Where Polar delivers to.
    pub url: String,
    /// `raw`, `discord` or `slack`; only `raw` can be verified.
    #[serde(default)]
    pub format: Option<String>,
    /// The types it is subscribed to, as Polar writes them.
    #[serde(default)]
    pub events: Vec<String>,
    /// Whether Polar delivers. Where Polar does not say, it does.
    #[serde(default = "enabled")]
    pub enabled: bool,
    /// When it was made.
    #[serde(default)]
    pub created_at: Option<DateTime<Utc>>,
}

impl WebhookEndpoint {
    /// Whether its deliveries come as they are signed.
    #[must_use]
    pub fn is_verifiable(&self) -> bool {
        self.format.as_deref().is_none_or(|format| format == "raw")
    }
}

/// An endpoint with what its deliveries are signed with.
#[derive(Clone, Deserialize)]
pub struct EndpointWithSecret {
    /// The endpoint.
    #[serde(flatten)]
    pub endpoint: WebhookEndpoint,
    /// The secret, as it is written into `POLAR_WEBHOOK_SECRET`.
    secret: String,
}

impl fmt::Debug for EndpointWithSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointWithSecret")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

impl EndpointWithSecret {
    /// Returns the secret.
    #[must_use]
    pub fn into_secret(self) -> SecretString {
        self.secret.into()
    }
}

/// What of an endpoint is to become another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EndpointUpdate {
    /// Whether Polar delivers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// All types that it shall be subscribed to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<String>>,
}

/// One attempt to deliver an event.
#[derive(Clone, Debug, Deserialize)]
pub struct DeliveryAttempt {
    /// Polar's id of the attempt.
    pub id: Uuid,
    /// The event, as it stands now.
    #[serde(rename = "webhook_event")]
    pub event: DeliveredEvent,
}

/// An event that was made for an endpoint. Its payload is left at Polar.
#[derive(Clone, Debug, Deserialize)]
pub struct DeliveredEvent {
    /// The id of the event, which is that of each of its deliveries.
    pub id: Uuid,
    /// When it happened.
    pub created_at: DateTime<Utc>,
    /// How it ended; `None` while it is under way.
    #[serde(default)]
    pub succeeded: Option<bool>,
    /// Never to be delivered, because the endpoint was disabled.
    #[serde(default)]
    pub skipped: bool,
    /// Too old to be sent again.
    #[serde(default)]
    pub is_archived: bool,
}

impl DeliveredEvent {
    /// Polar tries it no more by itself, but would if asked.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        self.succeeded == Some(false) && !self.skipped && !self.is_archived
    }

    /// Polar will try it again by itself.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        self.succeeded.is_none() && !self.skipped
    }
}

impl Identified for DeliveryAttempt {
    fn id(&self) -> Uuid {
        self.id
    }
}

fn enabled() -> bool {
    true
}

impl Identified for WebhookEndpoint {
    fn id(&self) -> uuid::Uuid {
        self.id.0
    }
}

/// The operations on webhook endpoints; see [`Client::webhook_endpoints`].
#[derive(Clone, Copy)]
pub struct WebhookEndpoints<'a>(pub(crate) &'a Client);

impl WebhookEndpoints<'_> {
    /// One endpoint.
    ///
    /// # Errors
    /// `NotFound` when there is none; `Forbidden` without the scope `webhooks:read`.
    pub async fn get(self, id: WebhookEndpointId) -> Result<WebhookEndpoint, Error> {
        self.0.fetch(Call::new(GET).argument(id)).await
    }

    /// All endpoints of the token's organization.
    ///
    /// # Errors
    /// `Forbidden` without the scope `webhooks:read`.
    pub async fn all(self) -> Result<Vec<WebhookEndpoint>, Error> {
        page::all(self.0, || Call::new(LIST)).await
    }

    /// One endpoint with its secret.
    ///
    /// # Errors
    /// `NotFound` when there is none; `MissingScope` without `webhooks:read`.
    pub async fn get_with_secret(self, id: WebhookEndpointId) -> Result<EndpointWithSecret, Error> {
        self.0.fetch(Call::new(GET).argument(id)).await
    }

    /// Makes an endpoint, which Polar enables at once, for these types of events.
    ///
    /// # Errors
    /// `Invalid` when the address is not `https` or is a private one; `MissingScope` without
    /// `webhooks:write`.
    pub async fn create(self, url: &str, events: &[&str]) -> Result<EndpointWithSecret, Error> {
        let body = json!({"url": url, "format": "raw", "events": events});
        self.0.fetch(Call::new(CREATE).json(&body)).await
    }

    /// Changes an endpoint. One that is disabled forgets what it was still to deliver.
    ///
    /// # Errors
    /// `NotFound` when there is none; `MissingScope` without `webhooks:write`.
    pub async fn update(
        self,
        id: WebhookEndpointId,
        update: &EndpointUpdate,
    ) -> Result<WebhookEndpoint, Error> {
        self.0
            .fetch(Call::new(UPDATE).argument(id).json(update))
            .await
    }

    /// The attempts in vain since a moment, of one endpoint. The event of one may have succeeded since.
    ///
    /// # Errors
    /// `MissingScope` without `webhooks:read`.
    pub async fn failed_attempts(
        self,
        id: WebhookEndpointId,
        since: DateTime<Utc>,
    ) -> Result<Vec<DeliveryAttempt>, Error> {
        let since = since.to_rfc3339_opts(SecondsFormat::Micros, true);
        let call = || {
            Call::new(ATTEMPTS)
                .query("endpoint_id", id)
                .query("succeeded", false)
                .query("start_timestamp", &since)
        };
        page::all(self.0, call).await
    }

    /// Asks Polar to send an event again, to the endpoint that it was made for.
    ///
    /// # Errors
    /// `NotFound` when Polar does not know it; `MissingScope` without `webhooks:write`.
    pub async fn redeliver(self, event: Uuid) -> Result<(), Error> {
        self.0.perform(Call::new(REDELIVER).argument(event)).await
    }
}
