//! Which customer a job asks Polar about, and whether there is any use in asking: the same for
//! every job that a delivery about a customer starts.

pub(crate) mod state;

use polar::Peek;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::contract::{Context, Done, Error, NOT_CONFIGURED};
use crate::mirror::organizations::Standing;
use crate::mirror::{organizations, seen, unsynced, wanted};
use crate::types::OrganizationId;

/// Why nothing is ever asked or changed about the organization that sells the plans.
const SELF: &str = "the self organization is no customer of its own";

/// A customer, by Polar's id, by ours, or by both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomerIds {
    /// Polar's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer_id: Option<Uuid>,
    /// Our id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_customer_id: Option<OrganizationId>,
}

/// What came of the look at a customer before Polar is asked about it.
pub(crate) enum Readiness<'a> {
    /// It belongs to this living organization, and there is somebody to ask.
    Ready(&'a polar::Client, OrganizationId),
    /// There is no use in asking.
    Done(Done),
}

impl CustomerIds {
    /// The customer of an organization.
    #[must_use]
    pub fn of(organization: OrganizationId) -> Self {
        Self {
            customer_id: None,
            external_customer_id: Some(organization),
        }
    }

    /// The customer that a delivery is about. An external id that is none of ours counts as none:
    /// Polar compares external ids byte by byte, so ours are lower-case, hyphenated UUIDs only.
    #[must_use]
    pub fn of_delivery(peek: &Peek) -> Self {
        let ours = |text: &str| {
            OrganizationId::parse(text).filter(|organization| organization.to_string() == text)
        };
        Self {
            customer_id: peek.customer_id.map(Uuid::from),
            external_customer_id: peek.external_customer_id.as_deref().and_then(ours),
        }
    }

    /// The same text for all that is about one customer; `None` where nobody is named.
    pub(crate) fn key(&self) -> Option<String> {
        match (self.external_customer_id, self.customer_id) {
            (Some(organization), _) => Some(format!("organization/{organization}")),
            (None, Some(customer)) => Some(format!("customer/{customer}")),
            (None, None) => None,
        }
    }

    /// Whose customer it is, and whether Polar can be asked about it. While billing is off the
    /// organization is noted as out of step, so that it is asked about once billing is configured.
    pub(crate) async fn readiness<'a>(&self, context: &'a Context) -> Result<Readiness<'a>, Error> {
        let ignored = |reason: &str| Ok(Readiness::Done(Done::ignored(reason)));
        let Some(organization) = self.organization(context).await? else {
            return ignored(
                "the customer carries no external id of ours, and its id is not known here",
            );
        };
        let client = client_for(context, organization);
        if matches!(client, Err(SELF)) {
            return ignored(SELF);
        }
        let mut transaction = context.begin().await?;
        let standing = organizations::standing(&mut transaction, organization).await?;
        if standing == Standing::Unknown {
            return ignored("the organization is not known here");
        }
        // What Polar delivers after a deletion may name the customer by its own id only.
        if let Some(customer) = self.customer_id {
            seen::remember_customer(&mut transaction, organization, polar::CustomerId(customer))
                .await?;
        }
        if standing == Standing::Deleted {
            let done = Done::ignored("the organization was deleted");
            return Ok(Readiness::Done(done.within(transaction)));
        }
        if standing == Standing::Recreated {
            // What is there of the new life comes with a customer of its own, after that.
            let done = Done::ignored(
                "the customer of the organization's earlier life is still to be deleted",
            );
            return Ok(Readiness::Done(done.within(transaction)));
        }
        match client {
            Ok(polar) => {
                transaction.commit().await?;
                Ok(Readiness::Ready(polar, organization))
            }
            Err(reason) => {
                unsynced::note_stale(&mut transaction, organization).await?;
                Ok(Readiness::Done(Done::ignored(reason).within(transaction)))
            }
        }
    }

    /// As the delivery said, else as the map of Polar's ids says.
    async fn organization(&self, context: &Context) -> Result<Option<OrganizationId>, Error> {
        match (self.external_customer_id, self.customer_id) {
            (Some(organization), _) => Ok(Some(organization)),
            (None, Some(customer)) => {
                Ok(wanted::organization_of_customer(&context.pool, customer).await?)
            }
            (None, None) => Err(Error::discard(
                "the delivery cannot be read: it names no customer",
            )),
        }
    }
}

/// Passes a result on. Where Polar could not be asked and the job is not tried again, the organization
/// is noted as out of step, so that it is asked about when the reason may have passed: a scope that the
/// token got back, an outage that is over. Written at once, for the job that fails writes nothing. An
/// answer that could not be followed is no such case: deliveries tell when the catalogue changes.
pub(crate) async fn or_out_of_step(
    context: &Context,
    organization: OrganizationId,
    result: Result<Done, Error>,
) -> Result<Done, Error> {
    if let Err(error @ (Error::Polar(_) | Error::Database(_))) = &result
        && context.job.ends_with(error)
    {
        let mut connection = context.pool.acquire().await?;
        unsynced::note_stale(&mut connection, organization).await?;
    }
    result
}

/// The client for calls about an organization, or the reason why there are none.
pub(crate) fn client_for(
    context: &Context,
    organization: OrganizationId,
) -> Result<&polar::Client, &'static str> {
    if context.settings.self_organization == Some(organization.0) {
        return Err(SELF);
    }
    context.polar.as_ref().ok_or(NOT_CONFIGURED)
}
