//! Members: the people of a customer at Polar (docs/polar-facts.md#members).

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    Client, CustomerId, CustomerRef, Error, MemberId, Operation,
    call::Call,
    open_enum::open_enum,
    page::{self, Identified},
};

const LIST: Operation = Operation::get("/v1/members/");
const CREATE: Operation = Operation::post("/v1/customers/{id}/members");
const CREATE_EXTERNAL: Operation = Operation::post("/v1/customers/external/{external_id}/members");
const GET: Operation =
    Operation::get("/v1/customers/external/{external_id}/members/{member_external_id}");
const UPDATE: Operation =
    Operation::patch("/v1/customers/external/{external_id}/members/{member_external_id}");
const DELETE: Operation =
    Operation::delete("/v1/customers/external/{external_id}/members/{member_external_id}");
const DELETE_BY_ID: Operation = Operation::delete("/v1/customers/{id}/members/{member_id}");

/// A member as Polar holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Polar's id.
    pub id: MemberId,
    /// The customer this person belongs to.
    pub customer_id: CustomerId,
    /// Our id of the user; null for members that others made. Cannot be changed later.
    #[serde(default)]
    pub external_id: Option<String>,
    /// The address; unique within the customer, whatever the case.
    pub email: String,
    /// The display name.
    #[serde(default)]
    pub name: Option<String>,
    /// What the member may do.
    pub role: Role,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    #[serde(default)]
    pub modified_at: Option<DateTime<Utc>>,
}

open_enum! {
    /// A member's role at Polar (docs/polar-facts.md#roles).
    Role {
        /// Exactly one per customer.
        Owner = "owner",
        /// Sees and changes billing.
        BillingManager = "billing_manager",
        /// Uses what the customer holds.
        Member = "member",
    }
}

/// A member to create. Polar takes every role here but `owner`.
#[derive(Clone, Debug, Serialize)]
pub struct NewMember {
    /// A deliverable address (docs/polar-facts.md#undeliverable).
    pub email: String,
    /// The display name, at most 256 characters.
    pub name: String,
    /// Our id of the user.
    pub external_id: String,
    /// `member` or `billing_manager`.
    pub role: Role,
}

/// The fields of a member to change; absent ones stay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemberUpdate {
    /// A new display name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A new address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// A new role; `owner` moves ownership and makes the former owner a billing manager.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
}

impl MemberUpdate {
    /// Whether there is nothing to change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Identified for Member {
    fn id(&self) -> uuid::Uuid {
        self.id.0
    }
}

/// The operations on members; see [`Client::members`].
#[derive(Clone, Copy)]
pub struct Members<'a>(pub(crate) &'a Client);

impl Members<'_> {
    /// Adds a member by the customer's external id.
    ///
    /// An answer does not prove that the member is as asked: if the address is known already,
    /// Polar answers with the existing member, unchanged (docs/polar-facts.md#member-email-taken).
    /// Compare.
    ///
    /// # Errors
    /// `NotFound` when there is no such customer. `Unavailable` once is normal in a race; lasting,
    /// it means that the external id belongs to another address
    /// (docs/polar-facts.md#member-external-id-taken).
    pub async fn create_external(
        self,
        customer_external_id: &str,
        member: &NewMember,
    ) -> Result<Member, Error> {
        self.0
            .fetch(
                Call::new(CREATE_EXTERNAL)
                    .argument(customer_external_id)
                    .json(member),
            )
            .await
    }

    /// Adds a member by Polar's id of the customer; otherwise as [`Members::create_external`].
    ///
    /// # Errors
    /// As [`Members::create_external`].
    pub async fn create(self, customer: CustomerId, member: &NewMember) -> Result<Member, Error> {
        self.0
            .fetch(Call::new(CREATE).argument(customer).json(member))
            .await
    }

    /// One member by both external ids.
    ///
    /// # Errors
    /// `NotFound` when the member or the customer does not exist; Polar does not say which.
    pub async fn get(
        self,
        customer_external_id: &str,
        member_external_id: &str,
    ) -> Result<Member, Error> {
        let call = Call::new(GET)
            .argument(customer_external_id)
            .argument(member_external_id);
        self.0.fetch(call).await
    }

    /// Changes the fields that are set.
    ///
    /// # Errors
    /// [`Error::is_sole_owner`] when the only owner would lose the role
    /// (docs/polar-facts.md#member-owner), [`Error::is_duplicate_email`] when another member has the
    /// address; `NotFound` as in `get`.
    pub async fn update(
        self,
        customer_external_id: &str,
        member_external_id: &str,
        update: &MemberUpdate,
    ) -> Result<Member, Error> {
        let call = Call::new(UPDATE)
            .argument(customer_external_id)
            .argument(member_external_id)
            .json(update);
        self.0.fetch(call).await
    }

    /// Removes a member.
    ///
    /// # Errors
    /// [`Error::is_sole_owner`] for the only owner (docs/polar-facts.md#member-owner); `NotFound`
    /// when the member is gone already.
    pub async fn delete(
        self,
        customer_external_id: &str,
        member_external_id: &str,
    ) -> Result<(), Error> {
        let call = Call::new(DELETE)
            .argument(customer_external_id)
            .argument(member_external_id);
        self.0.perform(call).await
    }

    /// Removes a member by Polar's id: one who was made by hand may have no other.
    ///
    /// # Errors
    /// As [`Members::delete`].
    pub async fn delete_by_id(self, customer: CustomerId, member: MemberId) -> Result<(), Error> {
        let call = Call::new(DELETE_BY_ID).argument(customer).argument(member);
        self.0.perform(call).await
    }

    /// All members of a customer, oldest first; empty for an unknown customer.
    ///
    /// # Errors
    /// As [`Error`] says.
    pub async fn all(self, customer: CustomerRef<'_>) -> Result<Vec<Member>, Error> {
        page::all(self.0, || members_of(customer)).await
    }

    /// All members of a customer with one role. Two roles are two calls: of repeated roles Polar
    /// reads the last (docs/polar-facts.md#member-roles-list).
    ///
    /// # Errors
    /// As [`Error`] says.
    pub async fn all_with_role(
        self,
        customer: CustomerRef<'_>,
        role: &Role,
    ) -> Result<Vec<Member>, Error> {
        page::all(self.0, || members_of(customer).query("role", role)).await
    }
}

fn members_of(customer: CustomerRef<'_>) -> Call {
    customer
        .filter(Call::new(LIST))
        .query("sorting", "created_at")
}
