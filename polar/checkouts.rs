//! Checkouts: pages at Polar where a person buys a plan.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    CheckoutId, Client, DiscountId, Error, Operation, ProductId, SubscriptionId, call::Call,
};

const CREATE: Operation = Operation::post("/v1/checkouts/");

/// A page to buy one product on.
#[derive(Clone, Debug, Default, Serialize)]
pub struct NewCheckout {
    /// What can be bought.
    pub products: Vec<ProductId>,
    /// Our id of the customer that buys.
    pub external_customer_id: String,
    /// The subscription that is replaced; Polar takes only one to a free product
    /// (docs/polar-facts.md#checkout-subscription).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription_id: Option<SubscriptionId>,
    /// A discount on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discount_id: Option<DiscountId>,
    /// Where the person calls from, by which Polar guesses country and tax.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer_ip_address: Option<IpAddr>,
    /// Where the person is sent after buying.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success_url: Option<String>,
    /// Where the page's way back leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub return_url: Option<String>,
    /// The origin of the page that shows the checkout in a frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embed_origin: Option<String>,
}

/// A checkout as Polar holds it.
#[derive(Clone, Debug, Deserialize)]
pub struct Checkout {
    /// Polar's id.
    pub id: CheckoutId,
    /// The page. It holds a secret of the checkout.
    pub url: String,
    /// Until when it can be used.
    pub expires_at: DateTime<Utc>,
}

/// The operations on checkouts; see [`Client::checkouts`].
#[derive(Clone, Copy)]
pub struct Checkouts<'a>(pub(crate) &'a Client);

impl Checkouts<'_> {
    /// Opens a page. Repeating it opens another one, which harms nobody.
    ///
    /// # Errors
    /// `Invalid` when a product, the discount or the subscription cannot be used.
    pub async fn create(self, checkout: &NewCheckout) -> Result<Checkout, Error> {
        self.0.fetch(Call::new(CREATE).json(checkout)).await
    }
}
