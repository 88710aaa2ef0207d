//! Makes our mirror of an organization's subscription equal Polar's newest one.

use polar::{CustomerRef, Envelope, EventType, OrAbsent, Subscription};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ApplyBenefits;
use crate::contract::{Context, Done, Error, Job, NewJob};
use crate::mirror::organizations::Standing;
use crate::mirror::{benefits, events, organizations, seen, subscriptions, unsynced, wanted};
use crate::polar_sync::NOT_CONFIGURED;
use crate::types::OrganizationId;

/// Read a customer's subscriptions and keep the newest; on the way, remember whose customer it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncSubscription {
    /// The stored delivery that is the reason to ask; read only where it could not be peeked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<i64>,
    /// Polar's id of the customer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer_id: Option<Uuid>,
    /// Our id of the customer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_customer_id: Option<OrganizationId>,
}

impl SyncSubscription {
    /// The job that a delivery about a subscription or a customer's state starts.
    #[must_use]
    pub fn for_delivery(event: i64, peek: &polar::Peek) -> Self {
        Self {
            event: Some(event),
            customer_id: peek.customer_id.map(Uuid::from),
            external_customer_id: peek
                .external_customer_id
                .as_deref()
                .and_then(OrganizationId::parse),
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

impl Job for SyncSubscription {
    const KIND: &'static str = "sync_subscription";

    /// A burst about one customer collapses into one asking.
    fn unique_key(&self) -> Option<String> {
        let subject = match (self.external_customer_id, self.customer_id, self.event) {
            (Some(organization), ..) => format!("organization/{organization}"),
            (_, Some(customer), _) => format!("customer/{customer}"),
            (_, _, Some(event)) => format!("event/{event}"),
            _ => return None,
        };
        Some(format!("{}/{subject}", Self::KIND))
    }

    fn ordering_key(&self) -> Option<String> {
        self.unique_key()
    }

    async fn run(self, context: &Context) -> Result<Done, Error> {
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
        sync(context, polar, organization).await
    }
}

impl SyncSubscription {
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
    let envelope = Envelope::<Subscription>::parse(body)
        .map_err(|error| Error::discard(format!("event {event} is no subscription: {error}")))?;
    let external = envelope
        .data
        .customer
        .and_then(|customer| OrganizationId::parse(customer.external_id.as_deref()?));
    Ok((Some(envelope.data.customer_id.0), external))
}

async fn sync(
    context: &Context,
    polar: &polar::Client,
    organization: OrganizationId,
) -> Result<Done, Error> {
    let asked = benefits::begin_asking(&context.pool).await?;
    let external_id = organization.to_string();
    let all = polar
        .subscriptions()
        .all(CustomerRef::External(&external_id))
        .await?;
    let newest = all.first();
    let name = match newest {
        Some(subscription) => product_name(polar, subscription).await?,
        None => String::new(),
    };
    let next = healed(context, organization).await?;
    let mut transaction = context.begin().await?;
    let newest = newest.map(|subscription| (subscription, name.as_str()));
    let done = match subscriptions::write(&mut transaction, organization, newest, asked).await? {
        true => Done::applied().within(transaction),
        false => Done::ignored("newer news were applied before"),
    };
    Ok(done.then(next))
}

/// A changed state may be all that we hear of a grant whose own delivery was lost, so the grants
/// are asked for as well.
async fn healed(
    context: &Context,
    organization: OrganizationId,
) -> Result<Option<NewJob>, sqlx::Error> {
    let state_changed = EventType::CustomerStateChanged;
    let events = &context.job.events;
    let heard = events::any_of_type(&context.pool, events, state_changed.as_str()).await?;
    Ok(heard.then(|| NewJob::of(&ApplyBenefits::of(organization))))
}

/// The plan's name; the list usually carries it.
async fn product_name(polar: &polar::Client, subscription: &Subscription) -> Result<String, Error> {
    if let Some(product) = &subscription.product {
        return Ok(product.name.clone());
    }
    let product = polar
        .products()
        .get(subscription.product_id)
        .await
        .or_absent()?;
    Ok(product.map_or_else(
        || subscription.product_id.to_string(),
        |product| product.name,
    ))
}
