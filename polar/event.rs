//! Deliveries: the 41 types that Polar sends, and the envelope around each.

use chrono::{DateTime, Utc};
use serde::{Deserialize, de::DeserializeOwned};

use crate::open_enum::open_enum;

open_enum! {
    /// The type of a delivery. A type that Polar adds later is `Other`, never an error.
    EventType {
        /// A benefit was defined.
        BenefitCreated = "benefit.created",
        /// A benefit's definition changed, metadata too.
        BenefitUpdated = "benefit.updated",
        /// A customer received a benefit.
        BenefitGrantCreated = "benefit_grant.created",
        /// The subscription behind a grant renewed.
        BenefitGrantCycled = "benefit_grant.cycled",
        /// A grant changed.
        BenefitGrantUpdated = "benefit_grant.updated",
        /// A benefit was withdrawn.
        BenefitGrantRevoked = "benefit_grant.revoked",
        /// A checkout was opened.
        CheckoutCreated = "checkout.created",
        /// A checkout ran out unused.
        CheckoutExpired = "checkout.expired",
        /// A checkout changed.
        CheckoutUpdated = "checkout.updated",
        /// A customer was made.
        CustomerCreated = "customer.created",
        /// A customer was deleted.
        CustomerDeleted = "customer.deleted",
        /// A customer, or what it holds, changed.
        CustomerStateChanged = "customer.state_changed",
        /// A customer's details changed.
        CustomerUpdated = "customer.updated",
        /// A seat was offered.
        CustomerSeatAssigned = "customer_seat.assigned",
        /// A seat was accepted.
        CustomerSeatClaimed = "customer_seat.claimed",
        /// A seat was withdrawn.
        CustomerSeatRevoked = "customer_seat.revoked",
        /// A discount was made.
        DiscountCreated = "discount.created",
        /// A discount was deleted.
        DiscountDeleted = "discount.deleted",
        /// A discount changed, or was redeemed.
        DiscountUpdated = "discount.updated",
        /// A member was added.
        MemberCreated = "member.created",
        /// A member was removed.
        MemberDeleted = "member.deleted",
        /// A member changed. A demoted owner gets none.
        MemberUpdated = "member.updated",
        /// An order was made; it may be unpaid.
        OrderCreated = "order.created",
        /// An order was paid.
        OrderPaid = "order.paid",
        /// An order was refunded.
        OrderRefunded = "order.refunded",
        /// An order changed; also when its invoice is ready.
        OrderUpdated = "order.updated",
        /// Our own Polar organization changed.
        OrganizationUpdated = "organization.updated",
        /// A product was made.
        ProductCreated = "product.created",
        /// A product changed.
        ProductUpdated = "product.updated",
        /// A refund was opened.
        RefundCreated = "refund.created",
        /// A refund changed.
        RefundUpdated = "refund.updated",
        /// A subscription became active.
        SubscriptionActive = "subscription.active",
        /// A cancellation was asked for; access may last.
        SubscriptionCanceled = "subscription.canceled",
        /// A subscription was made.
        SubscriptionCreated = "subscription.created",
        /// A new period began.
        SubscriptionCycled = "subscription.cycled",
        /// A renewal could not be charged.
        SubscriptionPastDue = "subscription.past_due",
        /// A pause took effect.
        SubscriptionPaused = "subscription.paused",
        /// A pause ended.
        SubscriptionResumed = "subscription.resumed",
        /// Access ended.
        SubscriptionRevoked = "subscription.revoked",
        /// A cancellation was withdrawn.
        SubscriptionUncanceled = "subscription.uncanceled",
        /// Anything about a subscription changed.
        SubscriptionUpdated = "subscription.updated",
    }
}

/// A delivery read as the payload that its type promises, such as `Envelope<BenefitGrant>`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Envelope<T> {
    /// What happened.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// When the event was made at Polar. Customers are described as they are later than that.
    #[serde(default)]
    pub timestamp: Option<DateTime<Utc>>,
    /// What it happened to.
    pub data: T,
}

/// A delivery that is not what its type promises. Holds where, not what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the delivery cannot be read (line {line}, column {column})")]
pub struct EnvelopeError {
    /// The line, counted from 1.
    pub line: usize,
    /// The column, counted from 1.
    pub column: usize,
}

impl<T: DeserializeOwned> Envelope<T> {
    /// Reads the exact bytes of a delivery.
    ///
    /// # Errors
    /// When the bytes are no JSON, or lack a field without which `T` means nothing.
    pub fn parse(body: &[u8]) -> Result<Self, EnvelopeError> {
        serde_json::from_slice(body).map_err(|fault| EnvelopeError {
            line: fault.line(),
            column: fault.column(),
        })
    }
}
