//! Orders and their invoices (docs/polar-facts.md#invoice).

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Client, CustomerId, CustomerRef, Error, Operation, OrderId, Page, Product, ProductId,
    Subscription, SubscriptionId,
    call::Call,
    lenient::or_default,
    open_enum::open_enum,
    page::{self, Identified},
};

const LIST: Operation = Operation::get("/v1/orders/");
const GET: Operation = Operation::get("/v1/orders/{id}");
const CREATE_INVOICE: Operation = Operation::post("/v1/orders/{id}/invoice");
const GET_INVOICE: Operation = Operation::get("/v1/orders/{id}/invoice");

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
    /// Why it was made.
    pub billing_reason: BillingReason,
    /// After discounts, before tax, in the smallest unit of the currency.
    pub net_amount: i64,
    /// With tax.
    #[serde(default)]
    pub total_amount: i64,
    /// What the customer's credit pays of it, as a negative number; positive where a debt is settled with it.
    #[serde(default, deserialize_with = "or_default")]
    pub applied_balance_amount: i64,
    /// What was paid back of it, without tax.
    #[serde(default, deserialize_with = "or_default")]
    pub refunded_amount: i64,
    /// The currency, lower case.
    #[serde(default)]
    pub currency: String,
    /// Who is billed; an invoice needs it.
    #[serde(default, deserialize_with = "or_default")]
    pub billing_name: Option<String>,
    /// Where they are; an invoice needs it.
    #[serde(default, deserialize_with = "or_default")]
    pub billing_address: Option<Value>,
    /// The invoice's number; orders have one before the invoice is made.
    #[serde(default, deserialize_with = "or_default")]
    pub invoice_number: Option<String>,
    /// Whether the invoice can be fetched.
    #[serde(default, deserialize_with = "or_default")]
    pub is_invoice_generated: bool,
    /// Whose it is.
    pub customer_id: CustomerId,
    /// What was bought.
    #[serde(default, deserialize_with = "or_default")]
    pub product_id: Option<ProductId>,
    /// The subscription it belongs to.
    #[serde(default, deserialize_with = "or_default")]
    pub subscription_id: Option<SubscriptionId>,
    /// The customer, as it is now.
    #[serde(default, deserialize_with = "or_default")]
    pub customer: Option<crate::Customer>,
    /// What was bought, as it was when this was written.
    #[serde(default, deserialize_with = "or_default")]
    pub product: Option<Product>,
    /// What was bought, in words.
    #[serde(default, deserialize_with = "or_default")]
    pub description: String,
    /// The subscription it belongs to.
    #[serde(default, deserialize_with = "or_default")]
    pub subscription: Option<Subscription>,
}

impl Order {
    /// What is charged for it, in the smallest unit of the currency: nothing where credit pays for all of it, or where it
    /// gives credit (docs/polar-facts.md#credit).
    #[must_use]
    pub fn charged_amount(&self) -> i64 {
        self.total_amount
            .saturating_add(self.applied_balance_amount)
            .max(0)
    }
}

open_enum! {
    /// Where an order stands.
    OrderStatus {
        /// Not yet final.
        Draft = "draft",
        /// Not paid yet.
        Pending = "pending",
        /// Paid.
        Paid = "paid",
        /// Paid and given back.
        Refunded = "refunded",
        /// Paid and given back in part.
        PartiallyRefunded = "partially_refunded",
        /// Withdrawn; it will never be paid.
        Void = "void",
    }
}

open_enum! {
    /// Why an order was made.
    BillingReason {
        /// A purchase that does not renew.
        Purchase = "purchase",
        /// A subscription began.
        SubscriptionCreate = "subscription_create",
        /// A period was renewed.
        SubscriptionCycle = "subscription_cycle",
        /// A subscription changed within its period.
        SubscriptionUpdate = "subscription_update",
        /// Metered usage of a period.
        SubscriptionMeterCycle = "subscription_meter_cycle",
    }
}

impl Identified for Order {
    fn id(&self) -> uuid::Uuid {
        self.id.0
    }
}

/// Where an invoice lies. The link is signed and lives for ten minutes: it is a secret, and not to be kept.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct InvoiceLink {
    /// The address.
    pub url: String,
}

impl std::fmt::Debug for InvoiceLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InvoiceLink(..)")
    }
}

/// The operations on orders; see [`Client::orders`].
#[derive(Clone, Copy)]
pub struct Orders<'a>(pub(crate) &'a Client);

impl Orders<'_> {
    /// One order.
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

    /// Has the invoice made, which takes some seconds and is told by `order.updated`. Repeated, it changes
    /// nothing.
    ///
    /// # Errors
    /// [`Error::is_order_without_invoice`] while the order is a draft, or once it is void;
    /// [`Error::lacks_billing_details`] without billing name or address.
    pub async fn create_invoice(self, id: OrderId) -> Result<(), Error> {
        self.0.perform(Call::new(CREATE_INVOICE).argument(id)).await
    }

    /// Where the invoice lies.
    ///
    /// # Errors
    /// [`Error::is_not_found`] for an unknown order, and before the invoice was made.
    pub async fn invoice(self, id: OrderId) -> Result<InvoiceLink, Error> {
        self.0.fetch(Call::new(GET_INVOICE).argument(id)).await
    }

    /// The invoice's bytes. The access token is not sent: the link leads to somebody else's storage.
    ///
    /// # Errors
    /// `Unreadable` for a document above `largest` bytes, one that is no PDF, and a link that is not encrypted
    /// (to a local Polar it may be); `Unavailable` and `Unreachable` when the storage does not give it.
    pub async fn download_invoice(
        self,
        link: &InvoiceLink,
        largest: usize,
    ) -> Result<Vec<u8>, Error> {
        let document = self.0.download(GET_INVOICE, &link.url, largest).await?;
        if document.starts_with(b"%PDF-") {
            return Ok(document);
        }
        Err(Error::Unreadable {
            operation: GET_INVOICE,
            reason: "the document is no PDF".to_owned(),
        })
    }
}
