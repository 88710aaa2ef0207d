//! Discounts on subscriptions.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Client, DiscountId, Error, Metadata, Operation, call::Call, lenient::or_default,
    open_enum::open_enum,
};

const CREATE: Operation = Operation::post("/v1/discounts/");
const GET: Operation = Operation::get("/v1/discounts/{id}");
const DELETE: Operation = Operation::delete("/v1/discounts/{id}");

/// A discount as Polar holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Discount {
    /// Polar's id.
    pub id: DiscountId,
    /// What people read.
    #[serde(default, deserialize_with = "or_default")]
    pub name: String,
    /// A share or an amount; absent where Polar tells less.
    #[serde(rename = "type", default, deserialize_with = "or_default")]
    pub kind: Option<DiscountType>,
    /// How long it lasts.
    #[serde(default, deserialize_with = "or_default")]
    pub duration: Option<DiscountDuration>,
    /// For how many calendar months, where it repeats.
    #[serde(default, deserialize_with = "or_default")]
    pub duration_in_months: Option<u32>,
    /// The share, 10 000 = everything.
    #[serde(default, deserialize_with = "or_default")]
    pub basis_points: Option<i64>,
    /// The amount by currency.
    #[serde(default, deserialize_with = "or_default")]
    pub amounts: Option<Value>,
    /// How often it may be used in all.
    #[serde(default, deserialize_with = "or_default")]
    pub max_redemptions: Option<i64>,
    /// How often it was used; absent where the discount is only mentioned. It never falls, also when a
    /// subscription loses the discount (docs/polar-facts.md#discount-once).
    #[serde(default, deserialize_with = "or_default")]
    pub redemptions_count: Option<i64>,
    /// Flat metadata.
    #[serde(default, deserialize_with = "or_default")]
    pub metadata: Metadata,
    /// When it was made.
    #[serde(default, deserialize_with = "or_default")]
    pub created_at: Option<DateTime<Utc>>,
}

impl Discount {
    /// Whether it was used. One that is only mentioned does not tell, and counts as unused.
    #[must_use]
    pub fn is_redeemed(&self) -> bool {
        self.redemptions_count.is_some_and(|count| count > 0)
    }
}

open_enum! {
    /// A share or an amount.
    DiscountType {
        /// A share of the price.
        Percentage = "percentage",
        /// An amount.
        Fixed = "fixed",
    }
}

open_enum! {
    /// How long a discount lasts.
    DiscountDuration {
        /// For one payment.
        Once = "once",
        /// As long as the subscription.
        Forever = "forever",
        /// For some months.
        Repeating = "repeating",
    }
}

/// A share of the price for some months.
#[derive(Clone, Debug, Serialize)]
pub struct NewDiscount {
    /// What people read.
    pub name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    duration: &'static str,
    /// The share, 10 000 = everything.
    pub basis_points: u32,
    /// For how many calendar months.
    pub duration_in_months: u32,
    /// How often it may be used in all.
    pub max_redemptions: u32,
    /// Flat metadata.
    pub metadata: Metadata,
}

impl NewDiscount {
    /// The whole price for some months, for one subscription. Bound to no product: so it can be
    /// attached together with a switch of plan.
    #[must_use]
    pub fn everything_once(name: String, months: u32, metadata: Metadata) -> Self {
        Self {
            name,
            kind: "percentage",
            duration: "repeating",
            basis_points: 10_000,
            duration_in_months: months,
            max_redemptions: 1,
            metadata,
        }
    }
}

/// The operations on discounts; see [`Client::discounts`].
#[derive(Clone, Copy)]
pub struct Discounts<'a>(pub(crate) &'a Client);

impl Discounts<'_> {
    /// One discount.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    pub async fn get(self, id: DiscountId) -> Result<Discount, Error> {
        self.0.fetch(Call::new(GET).argument(id)).await
    }

    /// Makes a discount. Repeating it makes another one.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub async fn create(self, discount: &NewDiscount) -> Result<Discount, Error> {
        self.0.fetch(Call::new(CREATE).json(discount)).await
    }

    /// Deletes a discount, used or not. Subscriptions that have it keep it.
    ///
    /// # Errors
    /// `NotFound` when it is gone already.
    pub async fn delete(self, id: DiscountId) -> Result<(), Error> {
        self.0.perform(Call::new(DELETE).argument(id)).await
    }
}
