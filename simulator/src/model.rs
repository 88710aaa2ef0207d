//! Why: what Polar keeps, as values. Rows are never removed, only marked deleted: deliveries made after a deletion still
//! describe the row (R2, R7).

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use uuid::Uuid;

/// A moment in the story.
pub(crate) type Moment = DateTime<Utc>;
/// Free-form metadata.
pub(crate) type Metadata = Map<String, Value>;

/// A row with an id.
pub(crate) trait Row {
    /// The row's id.
    fn id(&self) -> Uuid;
}

macro_rules! rows {
    ($($name:ident),*) => {$(
        impl Row for $name {
            fn id(&self) -> Uuid { self.id }
        }
    )*};
}
rows!(
    Customer,
    Member,
    Benefit,
    Product,
    Subscription,
    Order,
    Grant,
    Discount,
    Checkout,
    Endpoint
);

/// A customer; metadata tell whether it was anonymized, which decides what later deliveries show (R2).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Customer {
    pub(crate) id: Uuid,
    pub(crate) created_at: Moment,
    pub(crate) modified_at: Option<Moment>,
    pub(crate) external_id: Option<String>,
    pub(crate) email: Option<String>,
    pub(crate) team: bool,
    pub(crate) name: Option<String>,
    pub(crate) billing_name: Option<String>,
    pub(crate) billing_address: Value,
    pub(crate) tax_id: Value,
    pub(crate) locale: Value,
    pub(crate) metadata: Metadata,
    pub(crate) default_payment_method: Option<Uuid>,
    pub(crate) deleted_at: Option<Moment>,
    pub(crate) deleted_revision: u64,
}

/// A member of a customer.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) id: Uuid,
    pub(crate) created_at: Moment,
    pub(crate) modified_at: Option<Moment>,
    pub(crate) customer_id: Uuid,
    pub(crate) email: String,
    pub(crate) name: Option<String>,
    pub(crate) external_id: Option<String>,
    pub(crate) role: &'static str,
    pub(crate) created_revision: u64,
    pub(crate) deleted_revision: Option<u64>,
}

/// A benefit.
#[derive(Debug, Clone)]
pub(crate) struct Benefit {
    pub(crate) id: Uuid,
    pub(crate) created_at: Moment,
    pub(crate) modified_at: Option<Moment>,
    pub(crate) description: String,
    pub(crate) metadata: Metadata,
    pub(crate) properties: Value,
}

/// A recurring product with one fixed price (0 for free).
#[derive(Debug, Clone)]
pub(crate) struct Product {
    pub(crate) id: Uuid,
    pub(crate) created_at: Moment,
    pub(crate) modified_at: Option<Moment>,
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    pub(crate) interval: String,
    pub(crate) archived: bool,
    pub(crate) metadata: Metadata,
    pub(crate) price_id: Uuid,
    pub(crate) price_amount: i64,
    pub(crate) benefits: Vec<Uuid>,
}

/// A change of product that waits for the period to end.
#[derive(Debug, Clone)]
pub(crate) struct PendingUpdate {
    pub(crate) id: Uuid,
    pub(crate) created_at: Moment,
    pub(crate) modified_at: Option<Moment>,
    pub(crate) applies_at: Moment,
    pub(crate) product_id: Uuid,
    pub(crate) discount_id: Option<Option<Uuid>>,
}

/// A subscription.
#[derive(Debug, Clone)]
pub(crate) struct Subscription {
    pub(crate) id: Uuid,
    pub(crate) created_at: Moment,
    pub(crate) modified_at: Option<Moment>,
    pub(crate) customer_id: Uuid,
    pub(crate) product_id: Uuid,
    pub(crate) discount_id: Option<Uuid>,
    pub(crate) checkout_id: Option<Uuid>,
    pub(crate) status: &'static str,
    pub(crate) amount: i64,
    pub(crate) period_start: Moment,
    pub(crate) period_end: Moment,
    pub(crate) cancel_at_period_end: bool,
    pub(crate) pause_at_period_end: bool,
    pub(crate) trial: Option<(Moment, Moment)>,
    pub(crate) started_at: Moment,
    pub(crate) canceled_at: Option<Moment>,
    pub(crate) ends_at: Option<Moment>,
    pub(crate) ended_at: Option<Moment>,
    pub(crate) past_due_at: Option<Moment>,
    pub(crate) paused_at: Option<Moment>,
    pub(crate) pending: Option<PendingUpdate>,
}

/// An order. Its billing details are a copy of that moment.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) id: Uuid,
    pub(crate) created_at: Moment,
    pub(crate) modified_at: Option<Moment>,
    pub(crate) customer_id: Uuid,
    pub(crate) product_id: Option<Uuid>,
    pub(crate) subscription_id: Option<Uuid>,
    pub(crate) checkout_id: Option<Uuid>,
    pub(crate) discount_id: Option<Uuid>,
    pub(crate) status: &'static str,
    pub(crate) billing_reason: &'static str,
    pub(crate) subtotal: i64,
    pub(crate) discount: i64,
    pub(crate) tax: i64,
    pub(crate) billing_name: Option<String>,
    pub(crate) billing_address: Value,
    pub(crate) invoice_number: Option<String>,
    pub(crate) invoice_generated: bool,
    pub(crate) description: String,
    pub(crate) item_id: Uuid,
}

/// A grant of one benefit through one subscription (R32: one customer may hold several of one benefit).
#[derive(Debug, Clone)]
pub(crate) struct Grant {
    pub(crate) id: Uuid,
    pub(crate) created_at: Moment,
    pub(crate) modified_at: Option<Moment>,
    pub(crate) granted_at: Option<Moment>,
    pub(crate) revoked_at: Option<Moment>,
    pub(crate) subscription_id: Uuid,
    pub(crate) customer_id: Uuid,
    pub(crate) member_id: Option<Uuid>,
    pub(crate) benefit_id: Uuid,
}

/// A discount.
#[derive(Debug, Clone)]
pub(crate) struct Discount {
    pub(crate) id: Uuid,
    pub(crate) created_at: Moment,
    pub(crate) request: Map<String, Value>,
    pub(crate) max_redemptions: Option<i64>,
    pub(crate) redemptions: i64,
    pub(crate) deleted: bool,
}

/// A checkout.
#[derive(Debug, Clone)]
pub(crate) struct Checkout {
    pub(crate) id: Uuid,
    pub(crate) created_at: Moment,
    pub(crate) modified_at: Option<Moment>,
    pub(crate) status: &'static str,
    pub(crate) products: Vec<Uuid>,
    pub(crate) customer_id: Option<Uuid>,
    pub(crate) external_customer_id: Option<String>,
    pub(crate) discount_id: Option<Uuid>,
    pub(crate) subscription_id: Option<Uuid>,
    pub(crate) success_url: Option<String>,
    pub(crate) return_url: Option<String>,
}

/// A webhook endpoint.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) id: Uuid,
    pub(crate) created_at: Moment,
    pub(crate) modified_at: Option<Moment>,
    pub(crate) url: String,
    pub(crate) secret: String,
    pub(crate) events: Vec<String>,
    pub(crate) enabled: bool,
    pub(crate) deleted: bool,
}

/// An ingested event.
#[derive(Debug, Clone)]
pub(crate) struct UsageEvent {
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) external_id: Option<String>,
    pub(crate) external_customer_id: Option<String>,
    /// Whose event it is: the customer that lived under the external id then, or the first that did afterwards.
    pub(crate) customer_id: Option<Uuid>,
    pub(crate) timestamp: Moment,
    pub(crate) ingested_at: Moment,
    pub(crate) parent: Option<String>,
    pub(crate) metadata: Value,
    pub(crate) request: u64,
    pub(crate) position: usize,
    pub(crate) revision: u64,
}

/// A customer session made for a member.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) token: String,
    pub(crate) expires_at: Moment,
}
