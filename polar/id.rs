//! Polar's own ids, one type each, so that a member's id cannot be used as a customer's.
//!
//! Our external ids stay plain text: Polar compares them byte by byte and prescribes no form.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! polar_ids {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    )+};
}

polar_ids! {
    /// Polar's id of a customer.
    CustomerId;
    /// Polar's id of a member of a customer.
    MemberId;
    /// Polar's id of a subscription.
    SubscriptionId;
    /// Polar's id of a product; a plan is a product.
    ProductId;
    /// Polar's id of a benefit.
    BenefitId;
    /// Polar's id of one benefit held by one customer.
    BenefitGrantId;
    /// Polar's id of an organization, ours included.
    OrganizationId;
    /// Polar's id of an order.
    OrderId;
    /// Polar's id of a discount.
    DiscountId;
    /// Polar's id of a checkout.
    CheckoutId;
    /// Polar's id of a means of payment.
    PaymentMethodId;
    /// Polar's id of a webhook endpoint.
    WebhookEndpointId;
}
