//! Makes the support desk know an organization and its people: at Plain there is a tenant with name and
//! tier, a customer with each person's address and our id, and who belongs to the organization belongs
//! to the tenant.
//!
//! A kind and a queue of its own, because Plain is not Polar: while one is down the other goes on, and
//! nothing is asked of Polar again because Plain failed. One job brings the tenant and starts the jobs
//! of whoever Plain does not hold as wanted; each person is a job, so that one who cannot be brought
//! keeps nobody else, and where Plain no longer knows the tenant, it and everybody are brought again. A
//! person is one customer at Plain, whichever organizations they belong to: whoever changed while a run
//! for one of them was under way is brought again for all.
//!
//! A tier is a thing that people at the support desk also give by hand. So ours is the tier that a grant gives;
//! where none does, the default one is only given to a tenant without any, or in place of one of ours.

use plain::{CustomerKey, Tenant};
use serde::{Deserialize, Serialize};
use tracing::field::display;
use uuid::Uuid;

use crate::contract::{Context, Done, Error, Job, NOT_CONFIGURED, NewJob, Queue, SupportDesk};
use crate::mirror::support_desk::{self, WantedTenant};
use crate::types::{Email, OrganizationId, UserId};

/// Sync one organization, or one person of it, with the support desk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncSupportDesk {
    /// The organization.
    pub organization_id: OrganizationId,
    /// The person; absent for the organization itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
}

impl SyncSupportDesk {
    /// How its keys begin.
    pub(crate) const KEYS: &str = "sync_support_desk/";

    /// The job of an organization, which brings its people.
    #[must_use]
    pub fn of(organization_id: OrganizationId) -> NewJob {
        NewJob::of(&Self {
            organization_id,
            user_id: None,
        })
    }

    /// The job of one person.
    #[must_use]
    pub fn of_member(organization_id: OrganizationId, user_id: UserId) -> NewJob {
        NewJob::of(&Self {
            organization_id,
            user_id: Some(user_id),
        })
    }
}

impl Job for SyncSupportDesk {
    const KIND: &'static str = "sync_support_desk";
    const QUEUE: Queue = Queue::Support;

    fn unique_key(&self) -> Option<String> {
        let (keys, organization) = (Self::KEYS, self.organization_id);
        Some(match self.user_id {
            Some(user) => format!("{keys}{organization}/{user}"),
            None => format!("{keys}{organization}"),
        })
    }

    fn ordering_key(&self) -> Option<String> {
        self.unique_key()
    }

    async fn run(self, context: &Context) -> Result<Done, Error> {
        let organization = self.organization_id;
        let Some(plain) = &context.settings.support_desk else {
            return Ok(Done::ignored(NOT_CONFIGURED));
        };
        if context.settings.self_organization == Some(organization.0) {
            return Ok(Done::ignored("nobody asks the self organization for help"));
        }
        match self.user_id {
            Some(user) => sync_member(context, plain, organization, user).await,
            None => sync_tenant(context, plain, organization).await,
        }
    }
}

async fn sync_tenant(
    context: &Context,
    plain: &SupportDesk,
    organization: OrganizationId,
) -> Result<Done, Error> {
    let Some(wanted) = support_desk::tenant(&context.pool, organization).await? else {
        return Ok(Done::ignored("the organization is not created yet"));
    };
    let id = organization.to_string();
    if !wanted.deleted {
        let tenant = plain.client.upsert_tenant(&id, &wanted.name).await?;
        if let Err(error) = set_tier(context, plain, organization, &wanted, &tenant).await {
            bring_people(context, organization).await?;
            return Err(error);
        }
    } else if !wanted.given_tiers.is_empty() {
        let default = plain.default_tier.as_deref();
        match plain.client.update_tenant_tier(&id, default).await {
            Err(error) if error.is_not_found() => {}
            taken_away => taken_away?,
        }
    }
    let mut transaction = context.begin().await?;
    let people = support_desk::tenant_synced(&mut transaction, organization, &wanted).await?;
    let next = people
        .into_iter()
        .map(|user| SyncSupportDesk::of_member(organization, user));
    Ok(Done::applied().then(next).within(transaction))
}

/// Starts the jobs of the people although the tier cannot be set, for example because Plain does not know it: they
/// must be able to ask for help all the same.
async fn bring_people(context: &Context, organization: OrganizationId) -> Result<(), Error> {
    let mut transaction = context.begin().await?;
    for user in support_desk::tenant_known(&mut transaction, organization).await? {
        let sync = SyncSupportDesk::of_member(organization, user);
        support_desk::start(&mut transaction, &sync).await?;
    }
    Ok(transaction.commit().await?)
}

async fn set_tier(
    context: &Context,
    plain: &SupportDesk,
    organization: OrganizationId,
    wanted: &WantedTenant,
    tenant: &Tenant,
) -> Result<(), Error> {
    let has = tenant.tier.as_ref();
    let found = has.map(|tier| tier.external_id.as_deref().unwrap_or_default());
    let id = organization.to_string();
    let tier = match (&wanted.tier, found) {
        (Some(granted), Some(found)) if granted == found => return Ok(()),
        (Some(granted), _) => {
            support_desk::giving_tier(&context.pool, organization, granted).await?;
            Some(granted.as_str())
        }
        (None, None) if plain.default_tier.is_none() => return Ok(()),
        (None, None) => plain.default_tier.as_deref(),
        (None, Some(found)) if wanted.given_tiers.iter().any(|given| given == found) => {
            plain.default_tier.as_deref()
        }
        (None, Some(_)) => return Ok(()),
    };
    Ok(plain.client.update_tenant_tier(&id, tier).await?)
}

async fn sync_member(
    context: &Context,
    plain: &SupportDesk,
    organization: OrganizationId,
    user: UserId,
) -> Result<Done, Error> {
    let Some(wanted) = support_desk::member(&context.pool, organization, user).await? else {
        return Ok(Done::ignored(
            "no member of an organization that was created",
        ));
    };
    let (customer, tenant) = (user.to_string(), organization.to_string());
    if wanted.removed {
        let removed = plain.client.remove_customer_from_tenant(&customer, &tenant);
        match removed.await {
            Err(error) if error.is_not_found() => {}
            removed => removed?,
        }
    } else if !wanted.tenant_is_known {
        // The organization's sync starts the jobs of everybody whom Plain does not hold.
        let reason =
            "the support desk does not know the organization yet; its sync brings its people";
        return Ok(Done::ignored(reason).then([SyncSupportDesk::of(organization)]));
    } else {
        let Some(email) = &wanted.email else {
            let reason = "no address is known; synced when one comes";
            return Ok(Done::ignored(reason));
        };
        ensure_customer(plain, user, email).await?;
        let client = &plain.client;
        match client.add_customer_to_tenant(&customer, &tenant).await {
            Err(error) if error.is_not_found() => {
                // Somebody deleted the tenant at Plain. This run fails and is not done: else a person whom Plain never
                // finds would be tried for ever.
                let mut transaction = context.begin().await?;
                support_desk::tenant_gone(&mut transaction, organization).await?;
                let sync = SyncSupportDesk::of(organization);
                support_desk::start(&mut transaction, &sync).await?;
                transaction.commit().await?;
                return Err(error.into());
            }
            added => added?,
        }
    }
    let mut transaction = context.begin().await?;
    support_desk::member_synced(&mut transaction, organization, user, wanted.version).await?;
    let event = wanted.person_event;
    let others = support_desk::organizations_if_changed(&mut transaction, user, event).await?;
    let next = others
        .into_iter()
        .map(|other| SyncSupportDesk::of_member(other, user));
    Ok(Done::applied().then(next).within(transaction))
}

/// Whoever has the address at Plain is this person: they may have written to the support desk before they
/// belonged to anything here, or belong to an earlier account of the same person.
async fn ensure_customer(plain: &SupportDesk, user: UserId, email: &Email) -> Result<(), Error> {
    let (id, email) = (user.to_string(), email.as_str());
    let key = match plain.client.customer_by_email(email).await? {
        Some(known) if known.external_id.as_deref() == Some(&*id) => return Ok(()),
        Some(known) => {
            if let Some(other) = known.external_id {
                // Others who write to Plain may have put anything there, also an address, which must not be logged.
                let other = Uuid::try_parse(&other).ok().map(display);
                tracing::warn!(%user, other, "a person at the support desk belonged to another user; bound anew");
            }
            CustomerKey::EmailAddress
        }
        None => CustomerKey::ExternalId,
    };
    plain.client.upsert_customer(key, &id, email).await?;
    Ok(())
}
