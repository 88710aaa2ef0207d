//! Whether a caller may do what a route does in an organization. Each route checks in the same order: the caller, the
//! membership, the role. A refusal costs no call to Polar, and it is the same for an organization of others as for one
//! that does not exist.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use jobs::NewJob;
use jobs::SyncCustomer;
use jobs::SyncMember;
use jobs::mirror::api::callers::{self, Found};
use jobs::types::{OrganizationId, Role, UserId};
use polar::{Customer, CustomerRef, OrAbsent, Subscription};

use super::caller::Caller;
use super::error::{ApiError, Refusal};
use super::log::Facts;
use super::state::ApiState;

/// What a route requires of its caller.
pub(super) trait Guard: Send + Sync + 'static {
    /// Whether it acts as a person, so that the application's server alone cannot call it.
    const PERSON_ONLY: bool;
    /// The roles that may.
    const ROLES: &'static [Role];
}

/// Whoever manages the organization, and the application's server.
pub(super) enum Manages {}

impl Guard for Manages {
    const PERSON_ONLY: bool = false;
    const ROLES: &'static [Role] = &[Role::Owner, Role::Admin];
}

/// The same, as a person.
pub(super) enum ManagesAsPerson {}

impl Guard for ManagesAsPerson {
    const PERSON_ONLY: bool = true;
    const ROLES: &'static [Role] = Manages::ROLES;
}

/// Everybody who belongs to the organization, and the application's server.
pub(super) enum Belongs {}

impl Guard for Belongs {
    const PERSON_ONLY: bool = false;
    const ROLES: &'static [Role] = &Role::ALL;
}

/// A caller who may do what the route does.
pub(super) struct Access<G> {
    pub(super) state: Arc<ApiState>,
    pub(super) organization: OrganizationId,
    pub(super) found: Found,
    pub(super) caller: Caller,
    path_parameters: HashMap<String, String>,
    polar: Option<polar::Client>,
    guard: PhantomData<fn() -> G>,
}

impl<G: Guard> FromRequestParts<Arc<ApiState>> for Access<G> {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &Arc<ApiState>,
    ) -> Result<Self, Self::Rejection> {
        let facts = Facts::of(parts);
        let caller = Caller::read(state, &parts.headers)?;
        if let Some(person) = caller.person() {
            facts.person(person);
        } else if G::PERSON_ONLY {
            return Err(Refusal::Unauthorized.into());
        }
        let Path(path_parameters) =
            Path::<HashMap<String, String>>::from_request_parts(parts, state)
                .await
                .map_err(|_| Refusal::OrganizationNotFound)?;
        let organization = path_parameters
            .get("organization_id")
            .and_then(|id| OrganizationId::parse(id))
            .ok_or(Refusal::OrganizationNotFound)?;
        let found = callers::find(&state.pool, organization, caller.person())
            .await?
            .ok_or(Refusal::OrganizationNotFound)?;
        if caller.person().is_some() {
            let role = found.role.ok_or(Refusal::OrganizationNotFound)?;
            if !G::ROLES.contains(&role) {
                return Err(Refusal::NotPermitted.into());
            }
        }
        let is_self = state.self_organization == Some(organization.0);
        let client = state.polar.as_ref().filter(|_| !is_self);
        let polar = client.map(|client| {
            client
                .with_subject(&organization.to_string())
                .with_request_ids(facts.request_ids())
        });
        Ok(Self {
            state: Arc::clone(state),
            organization,
            found,
            caller,
            path_parameters,
            polar,
            guard: PhantomData,
        })
    }
}

impl<G> Access<G> {
    /// Polar, for calls about this organization.
    ///
    /// # Errors
    /// While billing is off.
    pub(super) fn polar(&self) -> Result<&polar::Client, Refusal> {
        self.polar.as_ref().ok_or(Refusal::NotConfigured)
    }

    /// Whether the customer that Polar may have under the organization's id is that of an earlier life, which is still
    /// to be deleted: what is bought on it goes with it, and what it has is not this organization's. There is no other
    /// until then.
    pub(super) fn has_former_customer(&self) -> bool {
        self.found.erasing
    }

    /// The organization's customer; `None` where Polar has none of its present life.
    pub(super) async fn customer(
        &self,
        polar: &polar::Client,
    ) -> Result<Option<Customer>, polar::Error> {
        if self.has_former_customer() {
            return Ok(None);
        }
        let customers = polar.customers();
        let found = customers.get_by_external_id(&self.external_id()).await;
        found.or_absent()
    }

    /// The subscription that the organization has; `None` on the free plan.
    pub(super) async fn subscription(
        &self,
        polar: &polar::Client,
    ) -> Result<Option<Subscription>, polar::Error> {
        if self.has_former_customer() {
            return Ok(None);
        }
        let external_id = self.external_id();
        let customer = CustomerRef::External(&external_id);
        polar.subscriptions().current(customer).await
    }

    /// The path parameter of this name; empty where the route has none.
    pub(super) fn path_parameter(&self, name: &str) -> &str {
        self.path_parameters.get(name).map_or("", String::as_str)
    }

    /// Our id of the customer.
    pub(super) fn external_id(&self) -> String {
        self.organization.to_string()
    }

    /// Checks that the organization may buy, by the status that the application gave it.
    ///
    /// # Errors
    /// `NotApproved` where it may not.
    pub(super) fn require_approved(&self) -> Result<(), Refusal> {
        match self.found.status.as_str() {
            "active" | "review" | "snoozed" => Ok(()),
            _ => Err(Refusal::NotApproved),
        }
    }

    /// Enqueues the job that makes the customer, which is missing at Polar. Where that fails the answer is the same.
    pub(super) async fn enqueue_customer_sync(&self) {
        self.enqueue(NewJob::of(&SyncCustomer {
            organization_id: self.organization,
        }))
        .await;
    }

    /// The same for the member.
    pub(super) async fn enqueue_member_sync(&self, user_id: UserId) {
        self.enqueue(NewJob::of(&SyncMember {
            organization_id: self.organization,
            user_id,
        }))
        .await;
    }

    async fn enqueue(&self, job: NewJob) {
        if let Err(error) = self.state.enqueue(&job).await {
            tracing::warn!(organization = %self.organization, kind = job.kind, %error, "a job could not be written");
        }
    }
}
