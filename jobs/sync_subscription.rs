//! Makes our mirror of an organization's subscription equal Polar's newest one.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Read a customer's subscriptions and keep the newest; on the way, remember whose customer it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncSubscription {
    /// The stored delivery that is the reason to ask; read only where it could not be peeked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<i64>,
    /// Polar's id of the customer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer_id: Option<Uuid>,
    /// Our id of the customer, as Polar told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_customer_id: Option<String>,
}

impl SyncSubscription {
    /// The job that a delivery about a subscription or a customer starts.
    #[must_use]
    pub fn for_delivery(event: i64, peek: &polar::Peek) -> Self {
        Self {
            event: Some(event),
            customer_id: peek.customer_id.map(Uuid::from),
            external_customer_id: peek.external_customer_id.clone(),
        }
    }
}
