//! Organizations: our own Polar organization, looked at by `doctor`.

use serde::{Deserialize, Serialize};

use crate::{Client, Error, Operation, OrganizationId, call::Call};

const GET: Operation = Operation::get("/v1/organizations/{id}");

/// A Polar organization.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Organization {
    /// Polar's id.
    pub id: OrganizationId,
    /// The display name.
    pub name: String,
    /// The name in addresses.
    pub slug: String,
}

/// The operations on organizations; see [`Client::organizations`].
#[derive(Clone, Copy)]
pub struct Organizations<'a>(pub(crate) &'a Client);

impl Organizations<'_> {
    /// One organization. Needs the scope `organizations:read`, which no job needs.
    ///
    /// # Errors
    /// `NotFound` when it does not exist or is not the token's.
    pub async fn get(self, id: OrganizationId) -> Result<Organization, Error> {
        self.0.fetch(Call::new(GET).argument(id)).await
    }
}
