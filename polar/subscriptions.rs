//! Subscriptions: which plan a customer pays for. The free tier has none.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    Client, Customer, CustomerId, CustomerRef, Discount, DiscountId, Error, Metadata, Operation,
    Product, ProductId, SubscriptionId,
    call::Call,
    lenient::or_default,
    open_enum::open_enum,
    page::{self, Identified},
};

const LIST: Operation = Operation::get("/v1/subscriptions/");
const GET: Operation = Operation::get("/v1/subscriptions/{id}");
const UPDATE: Operation = Operation::patch("/v1/subscriptions/{id}");

/// A subscription as Polar holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subscription {
    /// Polar's id.
    pub id: SubscriptionId,
    /// Where it stands.
    pub status: SubscriptionStatus,
    /// The price per period in the smallest unit of the currency; 0 also under a full discount.
    #[serde(default)]
    pub amount: i64,
    /// The currency, lower case.
    #[serde(default)]
    pub currency: String,
    /// `month`, `year`, ..
    #[serde(default)]
    pub recurring_interval: Option<String>,
    /// How many of them a period lasts.
    #[serde(default, deserialize_with = "or_default")]
    pub recurring_interval_count: Option<u32>,
    /// Start of the paid period.
    #[serde(default)]
    pub current_period_start: Option<DateTime<Utc>>,
    /// End of the paid period.
    #[serde(default)]
    pub current_period_end: Option<DateTime<Utc>>,
    /// Whether it ends with the period.
    #[serde(default)]
    pub cancel_at_period_end: bool,
    /// When cancellation was asked for.
    #[serde(default)]
    pub canceled_at: Option<DateTime<Utc>>,
    /// When it began.
    #[serde(default)]
    pub started_at: Option<DateTime<Utc>>,
    /// When access will end.
    #[serde(default)]
    pub ends_at: Option<DateTime<Utc>>,
    /// When access ended.
    #[serde(default)]
    pub ended_at: Option<DateTime<Utc>>,
    /// Since when a payment is missing.
    #[serde(default)]
    pub past_due_at: Option<DateTime<Utc>>,
    /// When it was paused.
    #[serde(default, deserialize_with = "or_default")]
    pub paused_at: Option<DateTime<Utc>>,
    /// Whose it is.
    pub customer_id: CustomerId,
    /// The plan.
    pub product_id: ProductId,
    /// The discount in force.
    #[serde(default, deserialize_with = "or_default")]
    pub discount_id: Option<DiscountId>,
    /// The same with its terms, where it could be read.
    #[serde(default, deserialize_with = "or_default")]
    pub discount: Option<Discount>,
    /// Flat metadata.
    #[serde(default, deserialize_with = "or_default")]
    pub metadata: Metadata,
    /// The customer, as it was when this was written.
    #[serde(default, deserialize_with = "or_default")]
    pub customer: Option<Customer>,
    /// The plan, as it was when this was written.
    #[serde(default, deserialize_with = "or_default")]
    pub product: Option<Product>,
    /// A change that waits for the end of the period.
    #[serde(default, deserialize_with = "or_default")]
    pub pending_update: Option<PendingUpdate>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    #[serde(default, deserialize_with = "or_default")]
    pub modified_at: Option<DateTime<Utc>>,
}

/// A change that waits for the end of the period.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PendingUpdate {
    /// When it takes effect.
    pub applies_at: DateTime<Utc>,
    /// The plan from then on; null when the plan stays.
    #[serde(default)]
    pub product_id: Option<ProductId>,
}

open_enum! {
    /// Where a subscription stands.
    SubscriptionStatus {
        /// The first payment is open.
        Incomplete = "incomplete",
        /// The first payment never came.
        IncompleteExpired = "incomplete_expired",
        /// In its free trial.
        Trialing = "trialing",
        /// Paid.
        Active = "active",
        /// A renewal is unpaid; payment is tried again.
        PastDue = "past_due",
        /// Ended.
        Canceled = "canceled",
        /// Payment was given up.
        Unpaid = "unpaid",
        /// Paused; benefits are withdrawn.
        Paused = "paused",
    }
}

impl SubscriptionStatus {
    /// Whether it gives its plan now, and is renewed unless it is cancelled.
    #[must_use]
    pub fn is_in_force(&self) -> bool {
        matches!(self, Self::Trialing | Self::Active | Self::PastDue)
    }
}

/// One change of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum SubscriptionUpdate {
    /// Another plan, and with it perhaps another discount.
    Plan {
        /// The plan.
        product_id: ProductId,
        /// When, and what is charged for it.
        proration_behavior: ProrationBehavior,
        /// The discount to attach, or to take away (`Some(None)`); `None` leaves it as it is.
        #[serde(skip_serializing_if = "Option::is_none")]
        discount_id: Option<Option<DiscountId>>,
    },
    /// A discount to attach, or to take away, at once.
    Discount {
        /// Which.
        discount_id: Option<DiscountId>,
    },
    /// Whether it ends with the period.
    Cancellation {
        /// `false` takes a cancellation back.
        cancel_at_period_end: bool,
    },
    /// Takes a change of plan back that waits for the end of the period.
    ClearPending {
        /// Always null.
        pending_update: (),
    },
}

impl SubscriptionUpdate {
    /// Lets it end with its period.
    pub const CANCEL: Self = Self::Cancellation {
        cancel_at_period_end: true,
    };
    /// Takes a cancellation back.
    pub const RESUME: Self = Self::Cancellation {
        cancel_at_period_end: false,
    };
    /// Takes a change of plan back that waits.
    pub const CLEAR_PENDING: Self = Self::ClearPending { pending_update: () };
}

/// When a change of plan takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProrationBehavior {
    /// At once, and the difference is charged at once.
    Invoice,
    /// With the next period.
    NextPeriod,
}

/// In force, or paused.
const CURRENT: [&str; 4] = ["trialing", "active", "past_due", "paused"];

/// Newest is the latest start; one that has not started yet counts by its creation, and ids break ties.
fn newest_first(subscriptions: &mut [Subscription]) {
    subscriptions.sort_by_key(|s| std::cmp::Reverse((s.started_at.unwrap_or(s.created_at), s.id)));
}

impl Identified for Subscription {
    fn id(&self) -> uuid::Uuid {
        self.id.0
    }
}

/// The operations on subscriptions; see [`Client::subscriptions`].
#[derive(Clone, Copy)]
pub struct Subscriptions<'a>(pub(crate) &'a Client);

impl Subscriptions<'_> {
    /// One subscription.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    pub async fn get(self, id: SubscriptionId) -> Result<Subscription, Error> {
        self.0.fetch(Call::new(GET).argument(id)).await
    }

    /// All subscriptions of a customer in every status, newest first; empty for an unknown
    /// customer. Newest is the latest start; one that has not started yet counts by its creation,
    /// and ids break ties, so that the order never depends on the paging.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub async fn all(self, customer: CustomerRef<'_>) -> Result<Vec<Subscription>, Error> {
        let list = || {
            customer
                .filter(Call::new(LIST))
                .query("sorting", "-started_at")
        };
        let mut subscriptions: Vec<Subscription> = page::all(self.0, list).await?;
        newest_first(&mut subscriptions);
        Ok(subscriptions)
    }

    /// The subscription that a customer has: the newest that is trialing, active or past due, else the
    /// newest paused one; `None` for an unknown customer as well.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub async fn current(self, customer: CustomerRef<'_>) -> Result<Option<Subscription>, Error> {
        let list = || {
            let call = customer
                .filter(Call::new(LIST))
                .query("sorting", "-started_at");
            CURRENT
                .iter()
                .fold(call, |call, status| call.query("status", status))
        };
        let mut subscriptions: Vec<Subscription> = page::all(self.0, list).await?;
        newest_first(&mut subscriptions);
        // Of equal ones the first is the minimum.
        let paused = |s: &Subscription| s.status == SubscriptionStatus::Paused;
        Ok(subscriptions.into_iter().min_by_key(paused))
    }

    /// Makes one change. Product, discount and proration may travel together; the others each travel
    /// alone, because Polar refuses them together (docs/polar-facts.md#subscription-variants).
    ///
    /// # Errors
    /// `PaymentFailed`, `Forbidden` with the name `AlreadyCanceledSubscription`, `Conflict`, `Invalid`
    /// for a product or a discount that cannot be used, `NotFound`.
    pub async fn update(
        self,
        id: SubscriptionId,
        update: &SubscriptionUpdate,
    ) -> Result<Subscription, Error> {
        self.0
            .fetch(Call::new(UPDATE).argument(id).json(update))
            .await
    }
}
