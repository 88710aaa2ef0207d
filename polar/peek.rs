//! A quick look into a delivery: its type, and whom it is about.
//!
//! The ingress stores whatever is verified and only needs a key for the job, so this look can
//! never fail: what cannot be read is absent. Strict reading is the worker's.

use std::borrow::Cow;

use serde::Deserialize;
use uuid::Uuid;

use crate::{
    BenefitId, CustomerId, EventType, OrderId, SubscriptionId,
    lenient::{object, or_default, text},
};

/// What a delivery is about, as far as it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peek {
    /// The type.
    pub event_type: Option<EventType>,
    /// Polar's id of the customer.
    pub customer_id: Option<CustomerId>,
    /// Our id of the customer, also as kept by an anonymized deletion; a plain deletion leaves
    /// none, so keep a map from Polar's ids.
    pub external_customer_id: Option<String>,
    /// The subscription.
    pub subscription_id: Option<SubscriptionId>,
    /// The order.
    pub order_id: Option<OrderId>,
    /// Whether the order says that its invoice is ready.
    pub invoice_ready: bool,
    /// The benefit.
    pub benefit_id: Option<BenefitId>,
    /// What the benefit's metadata names as its `type`: empty where they name none, `None` where no
    /// metadata of a benefit could be seen.
    pub benefit_type: Option<String>,
    /// Our id of the member.
    pub external_member_id: Option<String>,
}

/// Looks into the body of a delivery. Never fails: garbage gives an empty answer.
#[must_use]
pub fn peek(body: &[u8]) -> Peek {
    serde_json::from_slice::<Outline<'_>>(body)
        .map(Outline::about)
        .unwrap_or_default()
}

#[derive(Default, Deserialize)]
struct Outline<'a> {
    #[serde(borrow, rename = "type", default, deserialize_with = "text")]
    event_type: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "object")]
    data: Data<'a>,
}

#[derive(Default, Deserialize)]
struct Data<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    external_id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    customer_id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    external_customer_id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    subscription_id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    order_id: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "or_default")]
    is_invoice_generated: bool,
    #[serde(borrow, default, deserialize_with = "text")]
    benefit_id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "object")]
    metadata: Marks<'a>,
    #[serde(borrow, default, deserialize_with = "object")]
    customer: Person<'a>,
    #[serde(borrow, default, deserialize_with = "object")]
    member: Person<'a>,
    #[serde(borrow, default, deserialize_with = "object")]
    benefit: Benefit<'a>,
}

/// A customer or member inside other data.
#[derive(Default, Deserialize)]
struct Person<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "text")]
    external_id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "object")]
    metadata: Marks<'a>,
}

/// The benefit inside a grant.
#[derive(Default, Deserialize)]
struct Benefit<'a> {
    #[serde(borrow, default, deserialize_with = "object")]
    metadata: Marks<'a>,
}

/// What is of use in metadata.
#[derive(Default, Deserialize)]
struct Marks<'a> {
    /// `false` where there is no object to read.
    #[serde(skip_deserializing, default = "seen")]
    seen: bool,
    /// What an anonymized deletion keeps of a customer's external id.
    #[serde(borrow, rename = "__external_id", default, deserialize_with = "text")]
    external_id: Option<Cow<'a, str>>,
    /// What a benefit switches on.
    #[serde(borrow, rename = "type", default, deserialize_with = "text")]
    kind: Option<Cow<'a, str>>,
}

const fn seen() -> bool {
    true
}

/// What `data` itself is, by the first part of the type.
#[derive(Clone, Copy, PartialEq)]
enum Subject {
    Customer,
    Member,
    Subscription,
    Order,
    Benefit,
    Grant,
    Another,
}

impl Outline<'_> {
    fn about(self) -> Peek {
        let Self { event_type, data } = self;
        let subject = event_type.as_deref().map_or(Subject::Another, Subject::of);
        let (id, external_id) = (data.id, data.external_id);
        let itself = |kind| if subject == kind { id.as_deref() } else { None };
        let named = |kind| {
            if subject == kind {
                external_id.as_deref()
            } else {
                None
            }
        };
        let benefit = match subject {
            Subject::Benefit => Some(&data.metadata),
            Subject::Grant => Some(&data.benefit.metadata),
            _ => None,
        };
        Peek {
            customer_id: uuid([
                itself(Subject::Customer),
                data.customer_id.as_deref(),
                data.customer.id.as_deref(),
            ]),
            external_customer_id: first_text([
                named(Subject::Customer),
                data.customer.external_id.as_deref(),
                data.external_customer_id.as_deref(),
                data.metadata
                    .external_id
                    .as_deref()
                    .filter(|_| subject == Subject::Customer),
                data.customer.metadata.external_id.as_deref(),
            ]),
            subscription_id: uuid([
                itself(Subject::Subscription),
                data.subscription_id.as_deref(),
            ]),
            order_id: uuid([itself(Subject::Order), data.order_id.as_deref()]),
            invoice_ready: data.is_invoice_generated,
            benefit_id: uuid([itself(Subject::Benefit), data.benefit_id.as_deref()]),
            benefit_type: benefit
                .filter(|metadata| metadata.seen)
                .map(|metadata| metadata.kind.as_deref().unwrap_or_default().to_owned()),
            external_member_id: first_text([
                named(Subject::Member),
                data.member.external_id.as_deref(),
            ]),
            event_type: event_type.as_deref().map(EventType::parse),
        }
    }
}

impl Subject {
    fn of(event_type: &str) -> Self {
        match event_type.split('.').next() {
            Some("customer") => Self::Customer,
            Some("member") => Self::Member,
            Some("subscription") => Self::Subscription,
            Some("order") => Self::Order,
            Some("benefit") => Self::Benefit,
            Some("benefit_grant") => Self::Grant,
            _ => Self::Another,
        }
    }
}

/// The first candidate that is a UUID.
fn uuid<Id: From<Uuid>, const N: usize>(candidates: [Option<&str>; N]) -> Option<Id> {
    candidates
        .into_iter()
        .flatten()
        .find_map(|text| Uuid::try_parse(text).ok())
        .map(Id::from)
}

/// The first candidate that is not empty.
fn first_text<const N: usize>(candidates: [Option<&str>; N]) -> Option<String> {
    candidates
        .into_iter()
        .flatten()
        .find(|text| !text.is_empty())
        .map(str::to_owned)
}
