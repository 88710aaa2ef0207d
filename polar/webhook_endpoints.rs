//! Webhook endpoints: whether Polar still delivers to us. After ten failed events it stops, and
//! what happens while it is stopped is not even recorded.

use serde::{Deserialize, Serialize};

use crate::{
    Client, Error, Operation, WebhookEndpointId,
    call::Call,
    page::{self, Identified},
};

// These routes, unlike other collections, have no trailing slash.
const LIST: Operation = Operation::get("/v1/webhooks/endpoints");
const GET: Operation = Operation::get("/v1/webhooks/endpoints/{id}");

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
}
