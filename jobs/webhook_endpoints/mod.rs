//! Our webhook endpoints at Polar: which of them lead to us, and what they do not deliver.

use polar::WebhookEndpoint;

/// What our endpoint's address ends in.
pub const WEBHOOK_ROUTE: &str = "/integrations/polar/webhook";

/// What is to be said about our endpoints at Polar.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deliveries {
    /// The endpoints that deliver to us what we can verify.
    pub delivering: Vec<WebhookEndpoint>,
    /// Types of events that we handle and none of them sends.
    pub missing_events: Vec<String>,
}

impl Deliveries {
    /// Reads it off everything that Polar holds. `required` are the types of events that we handle.
    #[must_use]
    pub fn of(endpoints: Vec<WebhookEndpoint>, required: &[&str]) -> Self {
        let delivering: Vec<_> = endpoints
            .into_iter()
            .filter(|endpoint| is_ours(endpoint) && endpoint.enabled && endpoint.is_verifiable())
            .collect();
        let is_missing = |event: &&&str| !delivering.iter().any(|one| is_subscribed(one, event));
        let missing = required.iter().filter(is_missing);
        Self {
            missing_events: missing.map(|event| (*event).to_owned()).collect(),
            delivering,
        }
    }
}

/// Whether an endpoint leads to this product. With a slash at the end it does not: the ingress answers that
/// with 404.
#[must_use]
pub fn is_ours(endpoint: &WebhookEndpoint) -> bool {
    let mut parts = endpoint.url.split(['?', '#']);
    parts.next().is_some_and(|url| url.ends_with(WEBHOOK_ROUTE))
}

/// Returns the types of events in `required` that an endpoint is not subscribed to, enabled or not.
#[must_use]
pub fn missing_events<'r>(endpoint: &WebhookEndpoint, required: &[&'r str]) -> Vec<&'r str> {
    let required = required.iter().copied();
    required
        .filter(|event| !is_subscribed(endpoint, event))
        .collect()
}

fn is_subscribed(endpoint: &WebhookEndpoint, event: &str) -> bool {
    endpoint.events.iter().any(|subscribed| subscribed == event)
}
