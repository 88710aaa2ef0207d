//! Orders and their invoices: what a customer was asked to pay.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Client, CustomerId, CustomerRef, Error, Operation, OrderId, Page, Product, ProductId,
    SubscriptionId,
    call::Call,
    lenient::or_default,
    open_enum::open_enum,
    page::{self, Identified},
};

const LIST: Operation = Operation::get("/v1/orders/");
const GET: Operation = Operation::get("/v1/orders/{id}");
const GET_INVOICE: Operation = Operation::get("/v1/orders/{id}/invoice");
const CREATE_INVOICE: Operation = Operation::post("/v1/orders/{id}/invoice");

/// An order as Polar holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// Polar's id.
    pub id: OrderId,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Where it stands.
    pub status: OrderStatus,
    /// Whether it is paid.
    #[serde(default, deserialize_with = "or_default")]
    pub paid: bool,
    /// After the discount, before tax, in the smallest unit of the currency.
    #[serde(default, deserialize_with = "or_default")]
    pub net_amount: i64,
    /// With tax.
    #[serde(default, deserialize_with = "or_default")]
    pub total_amount: i64,
    /// What was paid back of it, without tax.
    #[serde(default, deserialize_with = "or_default")]
    pub refunded_amount: i64,
    /// The currency, lower case.
    #[serde(default, deserialize_with = "or_default")]
    pub currency: String,
    /// `purchase`, `subscription_create`, `subscription_cycle`, `subscription_update`.
    #[serde(default, deserialize_with = "or_default")]
    pub billing_reason: Option<String>,
    /// Whom the invoice is made out to.
    #[serde(default, deserialize_with = "or_default")]
    pub billing_name: Option<String>,
    /// Where; its parts are personal data and only looked at for presence.
    #[serde(default, deserialize_with = "or_default")]
    pub billing_address: Option<Value>,
    /// The invoice's number.
    #[serde(default, deserialize_with = "or_default")]
    pub invoice_number: Option<String>,
    /// Whether the invoice can be downloaded.
    #[serde(default, deserialize_with = "or_default")]
    pub is_invoice_generated: bool,
    /// Whose it is.
    pub customer_id: CustomerId,
    /// What was bought.
    #[serde(default, deserialize_with = "or_default")]
    pub product_id: Option<ProductId>,
    /// The subscription that it is of.
    #[serde(default, deserialize_with = "or_default")]
    pub subscription_id: Option<SubscriptionId>,
    /// What was bought, as it was when this was written.
    #[serde(default, deserialize_with = "or_default")]
    pub product: Option<Product>,
    /// What was bought, in words.
    #[serde(default, deserialize_with = "or_default")]
    pub description: String,
}

open_enum! {
    /// Where an order stands.
    OrderStatus {
        /// Not final yet.
        Draft = "draft",
        /// Not paid yet.
        Pending = "pending",
        /// Paid.
        Paid = "paid",
        /// Paid back.
        Refunded = "refunded",
        /// Paid back in part.
        PartiallyRefunded = "partially_refunded",
        /// Withdrawn.
        Void = "void",
    }
}

impl Identified for Order {
    fn id(&self) -> uuid::Uuid {
        self.id.0
    }
}

/// Where an invoice can be downloaded.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Invoice {
    /// A signed address, good for ten minutes (docs/polar-facts.md#invoice). Whoever has it can read the
    /// invoice, so it is never logged.
    pub url: String,
}

impl std::fmt::Debug for Invoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Invoice(..)")
    }
}

/// The operations on orders; see [`Client::orders`].
#[derive(Clone, Copy)]
pub struct Orders<'a>(pub(crate) &'a Client);

impl Orders<'_> {
    /// One order, whoever's it is.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    pub async fn get(self, id: OrderId) -> Result<Order, Error> {
        self.0.fetch(Call::new(GET).argument(id)).await
    }

    /// One page of a customer's orders, newest first; empty for an unknown customer. `page` counts
    /// from 1, `limit` goes to 100.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub async fn page(
        self,
        customer: CustomerRef<'_>,
        page: u32,
        limit: u32,
    ) -> Result<Page<Order>, Error> {
        let list = || {
            customer
                .filter(Call::new(LIST))
                .query("sorting", "-created_at")
        };
        page::limited(self.0, page, limit, list).await
    }

    /// Where the invoice can be downloaded. Never starts its generation.
    ///
    /// # Errors
    /// `NotFound` when there is no such order, or, with the name `InvoiceDoesNotExist`, no invoice yet
    /// (docs/polar-facts.md#invoice).
    pub async fn invoice(self, id: OrderId) -> Result<Invoice, Error> {
        self.0.fetch(Call::new(GET_INVOICE).argument(id)).await
    }

    /// Asks for the invoice to be made, which takes a while. Asking again changes nothing.
    ///
    /// # Errors
    /// `Conflict` for an order that gets none, `Invalid` when billing details are missing.
    pub async fn create_invoice(self, id: OrderId) -> Result<(), Error> {
        self.0.perform(Call::new(CREATE_INVOICE).argument(id)).await
    }
}
