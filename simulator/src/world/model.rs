//! What Polar keeps, as values. Rows are never removed, only marked deleted: deliveries made after a deletion still
//! describe the row.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use uuid::Uuid;

/// A moment of simulated time.
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
    PaymentMethod,
    Endpoint
);

/// A customer; metadata tell whether it was anonymized, which decides what later deliveries show.
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
    /// Cents that later orders use up first: what a change of plan gave back.
    pub(crate) balance: i64,
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

/// A way to pay, of one customer.
#[derive(Debug, Clone)]
pub(crate) struct PaymentMethod {
    pub(crate) id: Uuid,
    pub(crate) created_at: Moment,
    pub(crate) customer_id: Uuid,
    /// `None` for one that is no card.
    pub(crate) card: Option<Card>,
    /// Every charge is refused.
    pub(crate) declines: bool,
    pub(crate) deleted: bool,
}

/// What is shown of a card.
#[derive(Debug, Clone)]
pub(crate) struct Card {
    pub(crate) brand: &'static str,
    pub(crate) last4: String,
}

/// A benefit.
#[derive(Debug, Clone)]
pub(crate) struct Benefit {
    pub(crate) id: Uuid,
    /// `custom` or `slack_shared_channel`.
    pub(crate) kind: &'static str,
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
    pub(crate) discount_applied_at: Option<Moment>,
    pub(crate) checkout_id: Option<Uuid>,
    /// What its periods are charged to; the customer's default where there is none.
    pub(crate) payment_method: Option<Uuid>,
    /// Refuses every change.
    pub(crate) locked: bool,
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
    /// Charges and credits of changes, for the next order.
    pub(crate) prorations: Vec<OrderItem>,
}

/// A line of an order.
#[derive(Debug, Clone)]
pub(crate) struct OrderItem {
    pub(crate) id: Uuid,
    pub(crate) label: String,
    /// Cents before discount and tax; negative for a credit.
    pub(crate) amount: i64,
    pub(crate) tax: i64,
    pub(crate) proration: bool,
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
    /// What the customer's balance took off; zero or negative.
    pub(crate) applied_balance: i64,
    pub(crate) billing_name: Option<String>,
    pub(crate) billing_address: Value,
    pub(crate) invoice_number: Option<String>,
    pub(crate) invoice_generated: bool,
    pub(crate) description: String,
    pub(crate) items: Vec<OrderItem>,
}

/// A grant of one benefit through one subscription: one customer may hold several of one benefit.
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
    /// What the kind of benefit keeps: of Slack channels who was invited, and where the channel is.
    pub(crate) properties: Metadata,
}

/// A discount.
#[derive(Debug, Clone)]
pub(crate) struct Discount {
    pub(crate) id: Uuid,
    pub(crate) created_at: Moment,
    pub(crate) request: Map<String, Value>,
    /// The products it is for; empty for all.
    pub(crate) products: Vec<Uuid>,
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
    pub(crate) embed_origin: Option<String>,
    pub(crate) customer_ip_address: Option<String>,
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
    pub(crate) member_id: Uuid,
}
