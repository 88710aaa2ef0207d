//! The lowest layer: the part of Polar that we talk to, typed, and nothing of ours.
//!
//! Two directions, two halves. Outward, [`Client`] makes one HTTP call per method and says in
//! [`Error`] what happened; when to try again is decided above. Inward, [`webhook::Verifier`] says
//! whether a delivery is Polar's, and [`peek()`] and [`Envelope`] read what it is about.
//!
//! Answers are read leniently (unknown fields, unknown enum values and missing nullable fields are
//! no errors), because Polar adds to them without a new version; requests are built strictly.

mod benefit_grants;
mod call;
mod catalogue;
mod checkouts;
mod client;
mod cost;
mod customer_portal;
mod customer_sessions;
mod customer_state;
mod customers;
mod discounts;
mod error;
mod event;
mod events;
mod fault;
mod id;
mod lenient;
mod limiter;
mod members;
mod metadata;
mod open_enum;
mod orders;
mod organizations;
mod page;
mod peek;
mod products;
mod redact;
mod refusal;
mod request_ids;
mod retry_after;
mod subscriptions;
mod transport;
mod webhook_endpoints;

pub mod webhook;

pub use benefit_grants::{Benefit, BenefitGrant, BenefitGrants, BenefitType};
pub use call::Operation;
pub use catalogue::{NewBenefit, NewPlan};
pub use checkouts::{Checkout, Checkouts, NewCheckout};
pub use client::{API_VERSION, BuildError, Client, ClientConfig};
pub use cost::{Cost, CostAmount, CostAmountError, LlmUsage};
pub use customer_portal::{
    BillingAddress, Card, CustomerPortal, GrantError, PaymentMethod, PortalBenefit, PortalCustomer,
    PortalGrant, SlackProperties,
};
pub use customer_sessions::{CustomerSession, CustomerSessions};
pub use customer_state::{ActiveSubscription, CustomerState, GrantedBenefit};
pub use customers::{
    Customer, CustomerRef, CustomerType, CustomerUpdate, Customers, Deletion, NewTeam, Owner,
};
pub use discounts::{Discount, DiscountDuration, DiscountType, Discounts, NewDiscount};
pub use error::{Error, Interruption, OrAbsent};
pub use event::{Envelope, EnvelopeError, EventType};
pub use events::{EventMetadata, Events, IngestedEvent, Receipt};
pub use fault::{FieldFault, Invalid, LocPart};
pub use id::{
    BenefitGrantId, BenefitId, CheckoutId, CustomerId, DiscountId, MemberId, OrderId,
    OrganizationId, PaymentMethodId, ProductId, SubscriptionId, WebhookEndpointId,
};
pub use limiter::{
    Admission, Answer, BoxFuture, CallClass, CallFacts, RateLimiter, Rejected, RejectedReason,
    Subject, Unlimited,
};
pub use members::{Member, MemberUpdate, Members, NewMember, Role};
pub use metadata::{Metadata, MetadataValue};
pub use orders::{BillingReason, InvoiceLink, Order, OrderStatus, Orders};
pub use organizations::{Organization, Organizations};
pub use page::Page;
pub use peek::{Peek, peek};
pub use products::{Product, ProductPrice, Products};
pub use request_ids::RequestIds;
pub use retry_after::LONGEST as LONGEST_RETRY_AFTER;
pub use subscriptions::{
    PendingUpdate, ProrationBehavior, Subscription, SubscriptionStatus, SubscriptionUpdate,
    Subscriptions,
};
pub use webhook_endpoints::{
    DeliveredEvent, DeliveryAttempt, EndpointUpdate, EndpointWithSecret, WebhookEndpoint,
    WebhookEndpoints,
};
