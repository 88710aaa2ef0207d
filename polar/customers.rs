//! Customers: the mirror of the application's organizations at Polar (docs/polar-facts.md#ids).

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    Client, CustomerId, CustomerState, Error, Metadata, Operation, OrganizationId, Page,
    call::Call,
    open_enum::open_enum,
    page::{self, Identified},
};

const LIST: Operation = Operation::get("/v1/customers/");
const CREATE: Operation = Operation::post("/v1/customers/");
const GET: Operation = Operation::get("/v1/customers/{id}");
const GET_EXTERNAL: Operation = Operation::get("/v1/customers/external/{external_id}");
const UPDATE_EXTERNAL: Operation = Operation::patch("/v1/customers/external/{external_id}");
const UPDATE: Operation = Operation::patch("/v1/customers/{id}");
const DELETE: Operation = Operation::delete("/v1/customers/{id}");
const DELETE_EXTERNAL: Operation = Operation::delete("/v1/customers/external/{external_id}");
const STATE_EXTERNAL: Operation = Operation::get("/v1/customers/external/{external_id}/state");

/// A customer as Polar holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Customer {
    /// Polar's id.
    pub id: CustomerId,
    /// Our id: the organization's UUID as text. Null after a plain deletion
    /// (docs/polar-facts.md#deleted-customer-deliveries).
    #[serde(default)]
    pub external_id: Option<String>,
    /// Team or individual.
    #[serde(rename = "type", default = "CustomerType::team")]
    pub kind: CustomerType,
    /// The display name.
    #[serde(default)]
    pub name: Option<String>,
    /// The customer's own address; null for the teams that we make.
    #[serde(default)]
    pub email: Option<String>,
    /// Language and region in which the customer is addressed, such as `en-GB`.
    #[serde(default)]
    pub locale: Option<String>,
    /// Flat metadata; replaced as a whole on update (docs/polar-facts.md#metadata-replaced).
    #[serde(default)]
    pub metadata: Metadata,
    /// The Polar organization that bills this customer.
    #[serde(default)]
    pub organization_id: Option<OrganizationId>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    #[serde(default)]
    pub modified_at: Option<DateTime<Utc>>,
    /// When it was deleted.
    #[serde(default)]
    pub deleted_at: Option<DateTime<Utc>>,
}

open_enum! {
    /// The kind of customer.
    CustomerType {
        /// One person, who is the only member.
        Individual = "individual",
        /// An organization with members.
        Team = "team",
    }
}

impl CustomerType {
    fn team() -> Self {
        Self::Team
    }
}

/// A team to create together with its owner, in one transaction at Polar
/// (docs/polar-facts.md#customer-create).
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename = "team")]
pub struct NewTeam {
    /// The display name, at most 256 characters.
    pub name: String,
    /// Our id for it.
    pub external_id: String,
    /// Flat metadata, at most 50 keys.
    pub metadata: Metadata,
    /// The first member.
    pub owner: Owner,
}

/// The owner of a new team. The external id is no option: without one Polar gives the owner the
/// customer's (docs/polar-facts.md#owner-external-id).
#[derive(Clone, Debug, Serialize)]
pub struct Owner {
    /// A deliverable address (docs/polar-facts.md#undeliverable).
    pub email: String,
    /// The display name.
    pub name: String,
    /// Our id of the user.
    pub external_id: String,
}

/// The fields of a customer to change; absent ones stay.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CustomerUpdate {
    /// Another kind. Polar reads it only in [`Customers::update`]; the route by external id ignores it.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<CustomerType>,
    /// A new display name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// All metadata: keys left out are deleted (docs/polar-facts.md#metadata-replaced).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
}

/// What becomes of the personal data of a deleted customer (docs/polar-facts.md#customer-anonymized,
/// docs/polar-facts.md#deleted-customer-deliveries).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// Hash names and addresses. Later deliveries still carry the external id.
    Anonymize,
    /// Keep them. Later deliveries carry no external id at all.
    Keep,
}

/// Names a customer in lists: by Polar's id or by ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CustomerRef<'a> {
    /// By Polar's id; also finds what belongs to a deleted customer.
    Id(CustomerId),
    /// By our external id.
    External(&'a str),
}

impl From<CustomerId> for CustomerRef<'_> {
    fn from(id: CustomerId) -> Self {
        Self::Id(id)
    }
}

impl<'a> From<&'a str> for CustomerRef<'a> {
    fn from(external_id: &'a str) -> Self {
        Self::External(external_id)
    }
}

impl CustomerRef<'_> {
    pub(crate) fn filter(self, call: Call) -> Call {
        match self {
            Self::Id(id) => call.query("customer_id", id),
            Self::External(external_id) => call.query("external_customer_id", external_id),
        }
    }
}

impl Identified for Customer {
    fn id(&self) -> uuid::Uuid {
        self.id.0
    }
}

/// The operations on customers; see [`Client::customers`].
#[derive(Clone, Copy)]
pub struct Customers<'a>(pub(crate) &'a Client);

impl Customers<'_> {
    /// One customer by Polar's id.
    ///
    /// # Errors
    /// `NotFound` when there is none, or it is deleted; others as [`Error`] says.
    pub async fn get(self, id: CustomerId) -> Result<Customer, Error> {
        self.0.fetch(Call::new(GET).argument(id)).await
    }

    /// One customer by our external id, which Polar compares case-sensitively
    /// (docs/polar-facts.md#ids).
    ///
    /// # Errors
    /// `NotFound` when there is none, or it is deleted; others as [`Error`] says.
    pub async fn get_by_external_id(self, external_id: &str) -> Result<Customer, Error> {
        self.0
            .fetch(Call::new(GET_EXTERNAL).argument(external_id))
            .await
    }

    /// Creates a team with its owner.
    ///
    /// # Errors
    /// [`Error::is_duplicate_external_id`] when another run was first
    /// (docs/polar-facts.md#customer-duplicate), [`Error::is_undeliverable_email`] for an owner who
    /// cannot get mail (docs/polar-facts.md#undeliverable).
    pub async fn create_team(self, team: &NewTeam) -> Result<Customer, Error> {
        self.0.fetch(Call::new(CREATE).json(team)).await
    }

    /// Changes the fields that are set, by Polar's id: the only way to change the kind.
    ///
    /// # Errors
    /// `NotFound` when there is no such customer.
    pub async fn update(self, id: CustomerId, update: &CustomerUpdate) -> Result<Customer, Error> {
        self.0
            .fetch(Call::new(UPDATE).argument(id).json(update))
            .await
    }

    /// Changes the fields that are set, except the kind.
    ///
    /// # Errors
    /// `NotFound` when there is no such customer.
    pub async fn update_by_external_id(
        self,
        external_id: &str,
        update: &CustomerUpdate,
    ) -> Result<Customer, Error> {
        self.0
            .fetch(
                Call::new(UPDATE_EXTERNAL)
                    .argument(external_id)
                    .json(update),
            )
            .await
    }

    /// Deletes this customer, its members, and what it holds; never another one that has got its
    /// external id meanwhile.
    ///
    /// # Errors
    /// `NotFound` when it is gone already.
    pub async fn delete(self, id: CustomerId, deletion: Deletion) -> Result<(), Error> {
        let anonymize = deletion == Deletion::Anonymize;
        let call = Call::new(DELETE).argument(id).query("anonymize", anonymize);
        self.0.perform(call).await
    }

    /// Deletes whichever customer has the external id now, its members, and what it holds.
    ///
    /// # Errors
    /// `NotFound` when it is gone already.
    pub async fn delete_by_external_id(
        self,
        external_id: &str,
        deletion: Deletion,
    ) -> Result<(), Error> {
        let anonymize = deletion == Deletion::Anonymize;
        let call = Call::new(DELETE_EXTERNAL)
            .argument(external_id)
            .query("anonymize", anonymize);
        self.0.perform(call).await
    }

    /// One customer with its active subscriptions and granted benefits.
    ///
    /// # Errors
    /// `NotFound` when there is no such customer.
    pub async fn state_by_external_id(self, external_id: &str) -> Result<CustomerState, Error> {
        self.0
            .fetch(Call::new(STATE_EXTERNAL).argument(external_id))
            .await
    }

    /// One page of all customers, oldest first, so that new ones land on later pages. `number`
    /// counts from 1.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub async fn page(self, number: u32) -> Result<Page<Customer>, Error> {
        page::one(self.0, number, || {
            Call::new(LIST).query("sorting", "created_at")
        })
        .await
    }

    /// All customers, oldest first. One call per hundred.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub async fn all(self) -> Result<Vec<Customer>, Error> {
        page::all(self.0, || Call::new(LIST).query("sorting", "created_at")).await
    }
}
