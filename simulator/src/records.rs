//! Tests and people ask what Polar holds and what it was asked; these are the answers, as plain values.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

/// A customer as Polar holds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CustomerRecord {
    /// Polar's id.
    pub id: Uuid,
    /// The application's id; kept here even after a deletion.
    pub external_id: Option<String>,
    /// The customer's own address.
    pub email: Option<String>,
    /// The display name.
    pub name: Option<String>,
    /// `team` rather than `individual`.
    pub team: bool,
    /// All metadata.
    pub metadata: Map<String, Value>,
    /// When it was deleted.
    pub deleted_at: Option<DateTime<Utc>>,
}

/// A living member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    /// Polar's id.
    pub id: Uuid,
    /// The application's id of the person.
    pub external_id: Option<String>,
    /// The address.
    pub email: String,
    /// The name.
    pub name: Option<String>,
    /// `owner`, `billing_manager` or `member`.
    pub role: String,
}

/// A grant, held or withdrawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GrantRecord {
    /// Polar's id.
    pub id: Uuid,
    /// The benefit.
    pub benefit_id: Uuid,
    /// `metadata.type` of the benefit.
    pub benefit_type: Option<String>,
    /// The benefit's metadata now.
    pub metadata: Map<String, Value>,
    /// The subscription it comes through.
    pub subscription_id: Uuid,
    /// Held now.
    pub is_granted: bool,
}

/// A subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionRecord {
    /// Polar's id.
    pub id: Uuid,
    /// The product's id.
    pub product_id: Uuid,
    /// The product's name.
    pub product: String,
    /// Polar's word for its state.
    pub status: String,
    /// Cents per period, after discount.
    pub amount: i64,
    /// Start of the running period.
    pub current_period_start: DateTime<Utc>,
    /// End of the running period.
    pub current_period_end: DateTime<Utc>,
    /// Ends with the period.
    pub cancel_at_period_end: bool,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
}

/// An order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRecord {
    /// Polar's id.
    pub id: Uuid,
    /// `pending`, `paid`, `void`, `draft`.
    pub status: String,
    /// Why it was made.
    pub billing_reason: String,
    /// Cents before tax.
    pub net_amount: i64,
    /// The invoice's number.
    pub invoice_number: Option<String>,
    /// Whether the invoice exists.
    pub is_invoice_generated: bool,
}

/// An ingested event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventRecord {
    /// Polar's id.
    pub id: Uuid,
    /// The name.
    pub name: String,
    /// The sender's id; unique for ever.
    pub external_id: Option<String>,
    /// The application's id of the customer, as sent.
    pub external_customer_id: Option<String>,
    /// Polar's id of the customer whose event it is; `None` while nobody has had that external id since.
    pub customer_id: Option<Uuid>,
    /// When it happened, as sent.
    pub timestamp: DateTime<Utc>,
    /// When it arrived.
    pub ingested_at: DateTime<Utc>,
    /// The parent as sent: an external id or an id.
    pub parent_id: Option<String>,
    /// Whether that parent has arrived.
    pub parent_known: bool,
    /// All metadata; amounts as binary numbers.
    pub metadata: Value,
}

/// An API request that was seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// The method.
    pub method: String,
    /// The path without query.
    pub path: String,
    /// The raw query, empty for none.
    pub query: String,
    /// The status answered; `None` when the connection was cut.
    pub status: Option<u16>,
    /// `Polar-Version` as sent.
    pub version: Option<String>,
    /// `Authorization` as sent.
    pub authorization: Option<String>,
    /// `Content-Type` as sent.
    pub content_type: Option<String>,
    /// The JSON body; null for none.
    pub body: Value,
    /// When it was answered, on the simulated clock.
    pub at: DateTime<Utc>,
}

/// One attempt of a delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// When, on the simulated clock.
    pub at: DateTime<Utc>,
    /// The HTTP status; `None` without an answer.
    pub status: Option<u16>,
    /// The first characters of the answer, or why there was none.
    pub response: String,
}

/// A delivery with its attempts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryRecord {
    /// The `webhook-id`.
    pub id: Uuid,
    /// The event type.
    pub event_type: String,
    /// `pending`, `succeeded`, `failed` or `skipped`.
    pub state: String,
    /// The exact body; `None` until it is built.
    pub body: Option<String>,
    /// All attempts, first to last.
    pub attempts: Vec<AttemptRecord>,
}
