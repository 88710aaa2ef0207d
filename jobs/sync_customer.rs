//! Makes a customer at Polar as the application wants it: there with name, slug and owner, or gone
//! (polar-domain (b.2), (b.6), (b.7)).

use std::time::Duration;

use polar::{Customer, CustomerUpdate, Deletion, Metadata, NewTeam, OrAbsent, Owner};
use serde::{Deserialize, Serialize};

use crate::at_polar::{NOT_CONFIGURED, Seat, refused_address};
use crate::contract::{Context, Done, Error, Job, NewJob};
use crate::mirror::wanted::{WantedCustomer, WantedMember};
use crate::mirror::{seen, unsynced, usage, wanted};
use crate::terms::{OrganizationId, UserId};
use crate::{ApplyBenefits, SyncMember, SyncSubscription};

/// How soon a deletion looks again whether the last usage and costs are reported.
const REPORT_DELAY: Duration = Duration::from_secs(2);

/// Sync one organization.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncCustomer {
    /// The organization.
    pub organization_id: OrganizationId,
}

impl SyncCustomer {
    /// How its keys begin.
    pub(crate) const KEYS: &str = "sync_customer/";
}

impl Job for SyncCustomer {
    const KIND: &'static str = "sync_customer";

    fn unique_key(&self) -> Option<String> {
        Some(format!("{}{}", Self::KEYS, self.organization_id))
    }

    fn ordering_key(&self) -> Option<String> {
        self.unique_key()
    }

    async fn run(self, context: &Context) -> Result<Done, Error> {
        let Some(polar) = &context.polar else {
            return Ok(Done::ignored(NOT_CONFIGURED));
        };
        if context.settings.self_organization == Some(self.organization_id.0) {
            return Ok(Done::ignored(
                "the self organization is no customer of its own",
            ));
        }
        let Some(wanted) = wanted::customer(&context.pool, self.organization_id).await? else {
            return Ok(Done::ignored("the organization is not created yet"));
        };
        let sync = Sync {
            context,
            polar,
            organization: self.organization_id,
            external_id: self.organization_id.to_string(),
        };
        if let Some(event) = wanted.erasure_event {
            sync.erase(&wanted, event).await?;
        }
        if wanted.deleted {
            let mut transaction = context.begin().await?;
            seen::customer_synced(
                &mut transaction,
                self.organization_id,
                None,
                wanted.event_id,
            )
            .await?;
            return Ok(Done::applied().within(transaction));
        }
        sync.keep(&wanted).await
    }
}

/// One run for one organization.
struct Sync<'a> {
    context: &'a Context,
    polar: &'a polar::Client,
    organization: OrganizationId,
    external_id: String,
}

/// How the customer was found.
enum Found {
    /// It was there.
    Existing(Customer),
    /// This run made it, with this owner.
    Created(Customer, WantedMember),
}

impl Sync<'_> {
    /// Deletes the customer of the life that ended with change `event`. Its id is kept first:
    /// what Polar delivers afterwards may carry no other (R2).
    async fn erase(&self, wanted: &WantedCustomer, event: i64) -> Result<(), Error> {
        // Polar bills what it hears of a deleted customer to nobody.
        if usage::unreported_before_deletion(&self.context.pool, self.organization).await? {
            let reason = "usage and costs recorded before the deletion are reported first";
            return Err(Error::not_yet(reason, REPORT_DELAY));
        }
        if wanted.customer.is_none() {
            let Some(customer) = self.find().await? else {
                return Ok(seen::erased(&self.context.pool, self.organization, event).await?);
            };
            let mut connection = self.context.pool.acquire().await?;
            seen::remember_customer(&mut connection, self.organization, customer.id).await?;
        }
        self.polar
            .customers()
            .delete_by_external_id(&self.external_id, Deletion::Anonymize)
            .await
            .or_absent()?;
        Ok(seen::erased(&self.context.pool, self.organization, event).await?)
    }

    async fn find(&self) -> Result<Option<Customer>, Error> {
        Ok(self
            .polar
            .customers()
            .get_by_external_id(&self.external_id)
            .await
            .or_absent()?)
    }

    async fn keep(&self, wanted: &WantedCustomer) -> Result<Done, Error> {
        let found = match self.find().await? {
            Some(customer) => Found::Existing(customer),
            None => self.create(wanted).await?,
        };
        let (customer, made_owner) = match found {
            Found::Existing(customer) => (self.correct(wanted, customer).await?, None),
            Found::Created(customer, owner) => (customer, Some(owner)),
        };
        let displaced = match (wanted.owner, &made_owner) {
            (Some(owner), None) => {
                let at_polar = Seat::new(self.context, self.polar, self.organization)
                    .owners()
                    .await?;
                (!at_polar.contains(&owner)).then_some(owner)
            }
            _ => None,
        };
        // Found for the first time, and not made by us: it may hold grants and a plan already.
        let adopted = made_owner.is_none() && wanted.customer != Some(customer.id);
        self.finish(wanted, &customer, made_owner, displaced, adopted)
            .await
    }

    /// Creates the customer with its owner. Another run may be first; then its customer is ours
    /// (R4).
    async fn create(&self, wanted: &WantedCustomer) -> Result<Found, Error> {
        let owner = self.owner(wanted).await?;
        let email = owner
            .email
            .as_ref()
            .ok_or_else(|| no_owner("the address of its owner is not known"))?;
        let team = NewTeam {
            name: wanted.name.clone(),
            external_id: self.external_id.clone(),
            metadata: Metadata::from_iter([("slug", wanted.slug.as_str())]),
            // Without an external id Polar would give the owner the customer's (R6).
            owner: Owner {
                email: email.as_str().to_owned(),
                name: owner.name.clone(),
                external_id: owner.user.to_string(),
            },
        };
        match self.polar.customers().create_team(&team).await {
            Ok(customer) => Ok(Found::Created(customer, owner)),
            Err(error) if error.is_duplicate_external_id() => match self.find().await? {
                Some(customer) => Ok(Found::Existing(customer)),
                None => Err(Error::Retry(
                    "another run created the customer, but it is not there".to_owned(),
                )),
            },
            Err(error) if error.is_undeliverable_email() => {
                Err(refused_address(self.context, &owner).await)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn owner(&self, wanted: &WantedCustomer) -> Result<WantedMember, Error> {
        let nobody = || no_owner("nobody owns the organization");
        let owner = wanted.owner.ok_or_else(nobody)?;
        wanted::member(&self.context.pool, self.organization, owner)
            .await?
            .ok_or_else(nobody)
    }

    /// Changes name and slug where they differ; every other key of the metadata stays (b.6).
    async fn correct(
        &self,
        wanted: &WantedCustomer,
        customer: Customer,
    ) -> Result<Customer, Error> {
        let renamed = customer.name.as_deref() != Some(&wanted.name);
        let moved = customer.metadata.text("slug") != Some(&wanted.slug);
        if !renamed && !moved {
            return Ok(customer);
        }
        let mut metadata = customer.metadata.clone();
        metadata.insert("slug".to_owned(), wanted.slug.as_str().into());
        let update = CustomerUpdate {
            name: renamed.then(|| wanted.name.clone()),
            metadata: moved.then_some(metadata),
        };
        match self
            .polar
            .customers()
            .update_by_external_id(&self.external_id, &update)
            .await
        {
            Err(error) if error.is_not_found() => Err(Error::Retry(
                "the customer vanished between look and change".to_owned(),
            )),
            result => Ok(result?),
        }
    }

    /// Confirms what was read, and brings the members whom Polar has not confirmed.
    async fn finish(
        &self,
        wanted: &WantedCustomer,
        customer: &Customer,
        made_owner: Option<WantedMember>,
        displaced: Option<UserId>,
        adopted: bool,
    ) -> Result<Done, Error> {
        let organization_id = self.organization;
        let mut transaction = self.context.begin().await?;
        seen::customer_synced(
            &mut transaction,
            organization_id,
            Some(customer.id),
            wanted.event_id,
        )
        .await?;
        if let Some(owner) = made_owner {
            seen::member_synced(&mut transaction, organization_id, &owner).await?;
        }
        let mut members = unsynced::members_of(&mut transaction, organization_id).await?;
        if let Some(owner) = displaced.filter(|owner| !members.contains(owner)) {
            members.insert(0, owner);
        }
        let members = members.into_iter().map(|user_id| {
            NewJob::of(&SyncMember {
                organization_id,
                user_id,
            })
        });
        let mut next: Vec<NewJob> = members.collect();
        if adopted || wanted.stale {
            unsynced::clear_stale(&mut transaction, organization_id).await?;
            next.push(NewJob::of(&ApplyBenefits::of(organization_id)));
            next.push(NewJob::of(&SyncSubscription::of(organization_id)));
        }
        Ok(Done::applied().then(next).within(transaction))
    }
}

fn no_owner(why: &str) -> Error {
    Error::discard(format!(
        "Polar makes no customer without an owner, and {why}; it is made when one comes"
    ))
}
