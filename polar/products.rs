//! Products: the plans that our own Polar organization sells.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    Benefit, Client, Error, Metadata, Operation, ProductId,
    call::Call,
    lenient::{or_default, readable_items},
    page::{self, Identified},
};

const LIST: Operation = Operation::get("/v1/products/");
const GET: Operation = Operation::get("/v1/products/{id}");

/// A product as Polar holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Product {
    /// Polar's id.
    pub id: ProductId,
    /// The plan's name.
    pub name: String,
    /// What it offers.
    #[serde(default, deserialize_with = "or_default")]
    pub description: Option<String>,
    /// Whether it renews; plans do.
    #[serde(default, deserialize_with = "or_default")]
    pub is_recurring: bool,
    /// Whether it is withdrawn from sale.
    #[serde(default, deserialize_with = "or_default")]
    pub is_archived: bool,
    /// How often it renews: `month`, `year`, ..
    #[serde(default, deserialize_with = "or_default")]
    pub recurring_interval: Option<String>,
    /// How many of them a period lasts.
    #[serde(default, deserialize_with = "or_default")]
    pub recurring_interval_count: Option<u32>,
    /// What it costs; absent where a product is only mentioned.
    #[serde(default, deserialize_with = "readable_items")]
    pub prices: Vec<ProductPrice>,
    /// `public`, `private`, ..
    #[serde(default, deserialize_with = "or_default")]
    pub visibility: Option<String>,
    /// Flat metadata.
    #[serde(default, deserialize_with = "or_default")]
    pub metadata: Metadata,
    /// What holders get; absent where a product is only mentioned.
    #[serde(default, deserialize_with = "readable_items")]
    pub benefits: Vec<Benefit>,
    /// When it was made.
    #[serde(default, deserialize_with = "or_default")]
    pub created_at: Option<DateTime<Utc>>,
    /// When it last changed.
    #[serde(default, deserialize_with = "or_default")]
    pub modified_at: Option<DateTime<Utc>>,
}

/// One price of a product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductPrice {
    /// `fixed`, `free`, `custom`, `metered_unit`, ..
    #[serde(default, deserialize_with = "or_default")]
    pub amount_type: String,
    /// The amount of a fixed price, in the smallest unit of the currency.
    #[serde(default, deserialize_with = "or_default")]
    pub price_amount: Option<i64>,
    /// The currency, lower case.
    #[serde(default, deserialize_with = "or_default")]
    pub price_currency: String,
    /// Whether it is no longer offered.
    #[serde(default, deserialize_with = "or_default")]
    pub is_archived: bool,
}

impl Product {
    /// Whether it can be bought as a plan: it renews, is public and not withdrawn.
    #[must_use]
    pub fn is_for_sale(&self) -> bool {
        self.is_recurring && !self.is_archived && self.visibility.as_deref() == Some("public")
    }
}

impl Identified for Product {
    fn id(&self) -> uuid::Uuid {
        self.id.0
    }
}

/// The operations on products; see [`Client::products`].
#[derive(Clone, Copy)]
pub struct Products<'a>(pub(crate) &'a Client);

impl Products<'_> {
    /// One product, archived or not.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    pub async fn get(self, id: ProductId) -> Result<Product, Error> {
        self.0.fetch(Call::new(GET).argument(id)).await
    }

    /// The products that can be bought as plans, oldest first.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub async fn for_sale(self) -> Result<Vec<Product>, Error> {
        let list = || {
            Call::new(LIST)
                .query("is_recurring", true)
                .query("is_archived", false)
                .query("visibility", "public")
                .query("sorting", "created_at")
        };
        let mut products: Vec<Product> = page::all(self.0, list).await?;
        products.retain(Product::is_for_sale);
        Ok(products)
    }

    /// All products, archived ones too, oldest first.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub async fn all(self) -> Result<Vec<Product>, Error> {
        page::all(self.0, || Call::new(LIST).query("sorting", "created_at")).await
    }
}
