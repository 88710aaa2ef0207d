//! Makes fees, support tier and flags follow the grants that Polar says are active
//! (polar-domain (d)).
//!
//! A delivery is only a reason to ask: whether it said granted or revoked, and in which order they
//! came, plays no role.

use polar::{BenefitGrant, CustomerRef, Envelope, EventType};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::benefits;
use crate::contract::{Context, Done, Error, Job, NewJob};
use crate::mirror::organizations::Standing;
use crate::mirror::{self, events, organizations, seen, unsynced, wanted};
use crate::polar_sync::NOT_CONFIGURED;
use crate::types::OrganizationId;

/// Apply what a customer's active grants say, or what the holders of one benefit have now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyBenefits {
    /// The stored delivery that is the reason to ask; read only where it could not be peeked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<i64>,
    /// Polar's id of the customer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer_id: Option<Uuid>,
    /// Our id of the customer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_customer_id: Option<OrganizationId>,
    /// A benefit whose definition changed: its holders are looked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub benefit_id: Option<Uuid>,
}

impl ApplyBenefits {
    /// The job that a delivery about a grant, a benefit or a customer's state starts.
    #[must_use]
    pub fn for_delivery(event: i64, peek: &polar::Peek) -> Self {
        let of_benefit = peek.event_type == Some(EventType::BenefitUpdated);
        Self {
            event: Some(event),
            customer_id: peek.customer_id.map(Uuid::from),
            external_customer_id: peek
                .external_customer_id
                .as_deref()
                .and_then(OrganizationId::parse),
            benefit_id: peek.benefit_id.filter(|_| of_benefit).map(Uuid::from),
        }
    }

    /// The job that asks for one organization, without a delivery.
    #[must_use]
    pub fn of(organization: OrganizationId) -> Self {
        Self {
            external_customer_id: Some(organization),
            ..Self::default()
        }
    }
}

impl Job for ApplyBenefits {
    const KIND: &'static str = "apply_benefits";

    /// A burst about one customer collapses into one asking.
    fn unique_key(&self) -> Option<String> {
        let subject = match (
            self.benefit_id,
            self.external_customer_id,
            self.customer_id,
            self.event,
        ) {
            (Some(benefit), ..) => format!("benefit/{benefit}"),
            (_, Some(organization), ..) => format!("organization/{organization}"),
            (_, _, Some(customer), _) => format!("customer/{customer}"),
            (_, _, _, Some(event)) => format!("event/{event}"),
            _ => return None,
        };
        Some(format!("{}/{subject}", Self::KIND))
    }

    fn ordering_key(&self) -> Option<String> {
        self.unique_key()
    }

    async fn run(self, context: &Context) -> Result<Done, Error> {
        if let Some(benefit) = self.benefit_id {
            let holders = mirror::benefits::holders(&context.pool, benefit).await?;
            return Ok(Done::applied().then(
                holders
                    .into_iter()
                    .map(|holder| NewJob::of(&Self::of(holder))),
            ));
        }
        let Some(organization) = self.organization(context).await? else {
            return Err(Error::discard(
                "the customer carries no external id of ours, and its id is not known here",
            ));
        };
        let mut transaction = context.begin().await?;
        match organizations::standing(&mut transaction, organization).await? {
            Standing::Unknown => return Ok(Done::ignored("the organization is not known here")),
            Standing::Deleted => return Ok(Done::ignored("the organization was deleted")),
            Standing::Living => {}
        }
        let Some(polar) = &context.polar else {
            unsynced::note_stale(&mut transaction, organization).await?;
            return Ok(Done::ignored(NOT_CONFIGURED).within(transaction));
        };
        transaction.commit().await?;
        if concerns_others_only(context).await? {
            return Ok(Done::ignored("the benefit switches nothing on here"));
        }
        apply(context, polar, organization).await
    }
}

impl ApplyBenefits {
    /// Whose grants: as the delivery said, else as the map of Polar's ids says (R2). On the way
    /// the map learns.
    async fn organization(&self, context: &Context) -> Result<Option<OrganizationId>, Error> {
        let (customer, external) = match (self.customer_id, self.external_customer_id, self.event) {
            (None, None, Some(event)) => read_customer(context, event).await?,
            (customer, external, _) => (customer, external),
        };
        if let (Some(customer), Some(organization)) = (customer, external) {
            let mut connection = context.pool.acquire().await?;
            seen::remember_customer(&mut connection, organization, polar::CustomerId(customer))
                .await?;
        }
        Ok(match external {
            Some(organization) => Some(organization),
            None => wanted::organization_of_customer(&context.pool, customer).await?,
        })
    }
}

/// Reads strictly what the front door could not make out.
async fn read_customer(
    context: &Context,
    event: i64,
) -> Result<(Option<Uuid>, Option<OrganizationId>), Error> {
    let bodies = events::deliveries(&context.pool, &[event]).await?;
    let body = bodies
        .first()
        .ok_or_else(|| Error::discard(format!("event {event} is no stored delivery")))?;
    let envelope = Envelope::<BenefitGrant>::parse(body)
        .map_err(|error| Error::discard(format!("event {event} is no benefit grant: {error}")))?;
    let external = envelope
        .data
        .customer
        .and_then(|customer| OrganizationId::parse(customer.external_id.as_deref()?));
    Ok((Some(envelope.data.customer_id.0), external))
}

/// Whether every delivery behind this job is about a grant of a benefit that switches nothing on
/// (polar-domain (d.1), step 3: then Polar is not asked).
async fn concerns_others_only(context: &Context) -> Result<bool, Error> {
    #[derive(Deserialize)]
    struct Outline {
        data: GrantOutline,
    }
    #[derive(Deserialize)]
    struct GrantOutline {
        benefit: polar::Benefit,
    }
    let bodies = events::deliveries(&context.pool, &context.job.events).await?;
    let of_others = |body: &Vec<u8>| {
        serde_json::from_slice::<Outline>(body)
            .is_ok_and(|outline| !benefits::is_ours(outline.data.benefit.metadata.text("type")))
    };
    Ok(!bodies.is_empty() && bodies.iter().all(of_others))
}

async fn apply(
    context: &Context,
    polar: &polar::Client,
    organization: OrganizationId,
) -> Result<Done, Error> {
    let asked = mirror::benefits::begin_asking(&context.pool).await?;
    let external_id = organization.to_string();
    let grants = polar
        .benefit_grants()
        .active(CustomerRef::External(&external_id))
        .await?;
    let (entitlements, faults) = benefits::read(&grants);
    let held: Vec<Uuid> = grants.iter().map(|grant| grant.benefit_id.0).collect();
    let mut transaction = context.begin().await?;
    let fees = context.settings.platform_fees;
    let written = mirror::benefits::write(
        &mut transaction,
        organization,
        &entitlements,
        &held,
        fees,
        asked,
    )
    .await?;
    if faults.is_empty() {
        return Ok(match written {
            true => Done::applied().within(transaction),
            false => Done::ignored("newer news were applied before"),
        });
    }
    // What can be read is in force at once; the rest waits for somebody to mend the catalogue.
    transaction.commit().await?;
    metrics::counter!("polar_jobs_catalogue_faults_total").increment(1);
    let faults = faults.join("; ");
    tracing::error!(%organization, %faults, "the catalogue at Polar needs mending: an entitlement cannot be decided");
    Err(Error::Retry(faults))
}
