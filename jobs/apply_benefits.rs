//! Makes fees, support tier and flags follow the grants that Polar says are active
//! (polar-domain (d)).

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Apply what a customer's active grants say, or what the holders of one benefit have now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyBenefits {
    /// The stored delivery that is the reason to ask; read only where it could not be peeked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<i64>,
    /// Polar's id of the customer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer_id: Option<Uuid>,
    /// Our id of the customer, as Polar told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_customer_id: Option<String>,
    /// A benefit whose definition changed: its holders are looked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub benefit_id: Option<Uuid>,
}

impl ApplyBenefits {
    /// The job that a delivery about a grant, a benefit or a customer's state starts.
    #[must_use]
    pub fn for_delivery(event: i64, peek: &polar::Peek) -> Self {
        let customer_id = peek.customer_id.map(Uuid::from);
        Self {
            event: Some(event),
            customer_id,
            external_customer_id: peek.external_customer_id.clone(),
            benefit_id: if customer_id.is_none() { peek.benefit_id.map(Uuid::from) } else { None },
        }
    }
}
