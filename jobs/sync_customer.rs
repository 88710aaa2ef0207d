//! Makes a customer at Polar as the application wants it: there with name, slug and owner, or gone.
//!
//! A customer that vanished at Polar is made again. It is another one then: nothing that Polar
//! confirmed about the former is known to hold, so every member is out of step, grants and subscription
//! are asked for, and an invitation to the startup program is given to it as well. The same, but for the
//! invitation, goes for a customer that somebody made by hand with our external id. What is to be deleted
//! is named by Polar's id: a worker that was stopped in the middle and goes on later finds its customer
//! gone, and never meets the one that was made since.

use polar::{Customer, CustomerRef, CustomerType, CustomerUpdate, Metadata, NewTeam, Owner, Role};
use serde::{Deserialize, Serialize};

use crate::contract::{Context, Done, Error, Job, NewJob};
use crate::customer::client_for;
use crate::mirror::out_of_step::Subject;
use crate::mirror::wanted::{WantedCustomer, WantedMember};
use crate::mirror::{seen, unsynced, wanted};
use crate::polar_sync::{Failure, PolarCustomer, SyncTarget, refused_address};
use crate::types::{OrganizationId, UserId};
use crate::{ApplyBenefits, SyncMember, SyncStartupProgram, SyncSubscription};

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
    const SYNCS: bool = true;

    fn unique_key(&self) -> Option<String> {
        Some(format!("{}{}", Self::KEYS, self.organization_id))
    }

    fn ordering_key(&self) -> Option<String> {
        self.unique_key()
    }

    async fn run(self, context: &Context) -> Result<Done, Error> {
        let polar = match client_for(context, self.organization_id) {
            Ok(polar) => polar,
            Err(reason) => return Ok(Done::ignored(reason)),
        };
        let Some(wanted) = wanted::customer(&context.pool, self.organization_id).await? else {
            return Ok(Done::ignored("the organization is not created yet"));
        };
        let sync = Sync {
            context,
            polar,
            organization: self.organization_id,
            external_id: self.organization_id.to_string(),
        };
        match sync.run(&wanted).await {
            Ok(done) => Ok(done),
            Err(failure) => {
                let target = SyncTarget {
                    organization: self.organization_id,
                    subject: Subject::Customer,
                    version: wanted.version,
                };
                Err(failure.conclude(context, target).await)
            }
        }
    }
}

/// One run for one organization.
struct Sync<'a> {
    context: &'a Context,
    polar: &'a polar::Client,
    organization: OrganizationId,
    external_id: String,
}

/// A customer that is as wanted, and what this run knows of it.
struct Kept {
    customer: Customer,
    /// Set where this run made it, with this owner.
    made_owner: Option<WantedMember>,
    /// The wanted owner, where somebody else owns it.
    displaced: Option<UserId>,
}

impl Sync<'_> {
    async fn run(&self, wanted: &WantedCustomer) -> Result<Done, Failure> {
        if let Some(event) = wanted.erasure_event {
            self.customer().erase(wanted, event).await?;
        }
        if wanted.deleted {
            let mut transaction = self.context.begin().await?;
            seen::customer_synced(&mut transaction, self.organization, None, wanted.event_id)
                .await?;
            return Ok(Done::applied().within(transaction));
        }
        let kept = match self.customer().find().await? {
            Some(customer) => self.adopt(wanted, customer).await?,
            None => self.create(wanted).await?,
        };
        Ok(self.finish(wanted, kept).await?)
    }

    fn customer(&self) -> PolarCustomer<'_> {
        PolarCustomer::new(self.context, self.polar, self.organization)
    }

    /// Takes a customer that is there, and corrects it.
    async fn adopt(&self, wanted: &WantedCustomer, found: Customer) -> Result<Kept, Failure> {
        let first_time = wanted.customer != Some(found.id);
        let customer = self.correct(wanted, found).await?;
        let owners = if first_time {
            self.report_foreign_members().await?
        } else {
            self.customer().owners().await?
        };
        let displaced = wanted.owner.filter(|owner| !owners.contains(owner));
        Ok(Kept {
            customer,
            made_owner: None,
            displaced,
        })
    }

    /// Says once which members of an adopted customer are not ours. They are left alone. Returns the
    /// owners.
    async fn report_foreign_members(&self) -> Result<Vec<UserId>, Failure> {
        let members = self
            .polar
            .members()
            .all(CustomerRef::External(&self.external_id))
            .await?;
        let mut owners = Vec::new();
        for member in members {
            let user = member.external_id.as_deref().and_then(UserId::parse);
            let ours = match user {
                Some(user) => wanted::member(&self.context.pool, self.organization, user)
                    .await?
                    .is_some(),
                None => false,
            };
            if !ours {
                tracing::warn!(organization = %self.organization, member = %member.id, role = %member.role,
                    "a customer that was made by hand at Polar has a member who is not ours; left alone");
            }
            if member.role == Role::Owner {
                owners.extend(user);
            }
        }
        Ok(owners)
    }

    /// Creates the customer with its owner. Another run may be first; then its customer is ours.
    async fn create(&self, wanted: &WantedCustomer) -> Result<Kept, Failure> {
        let owner = self.owner(wanted).await?;
        let email = owner
            .email
            .as_ref()
            .ok_or_else(|| no_owner("the address of its owner is not known"))?;
        let team = NewTeam {
            name: wanted.name.clone(),
            external_id: self.external_id.clone(),
            metadata: Metadata::from_iter([("slug", wanted.slug.as_str())]),
            // Without an external id Polar would give the owner the customer's.
            owner: Owner {
                email: email.as_str().to_owned(),
                name: owner.name.clone(),
                external_id: owner.user.to_string(),
            },
        };
        match self.polar.customers().create_team(&team).await {
            Ok(customer) => Ok(Kept {
                customer,
                made_owner: Some(owner),
                displaced: None,
            }),
            Err(error) if error.is_duplicate_external_id() => match self.customer().find().await? {
                Some(customer) => self.adopt(wanted, customer).await,
                None => Err(Error::Retry(
                    "another run created the customer, but it is not there".to_owned(),
                )
                .into()),
            },
            Err(error) if error.is_undeliverable_email() => {
                Err(refused_address(self.context, &owner).await)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn owner(&self, wanted: &WantedCustomer) -> Result<WantedMember, Failure> {
        let nobody = || no_owner("nobody owns the organization");
        let owner = wanted.owner.ok_or_else(nobody)?;
        wanted::member(&self.context.pool, self.organization, owner)
            .await?
            .ok_or_else(nobody)
    }

    /// Changes name, slug and kind where they differ; every other key of the metadata stays.
    async fn correct(
        &self,
        wanted: &WantedCustomer,
        customer: Customer,
    ) -> Result<Customer, Failure> {
        let customer = match customer.kind {
            CustomerType::Individual => self.make_team(&customer).await?,
            _ => customer,
        };
        let renamed = customer.name.as_deref() != Some(&wanted.name);
        let moved = customer.metadata.text("slug") != Some(&wanted.slug);
        if !renamed && !moved {
            return Ok(customer);
        }
        let mut metadata = customer.metadata.clone();
        metadata.insert("slug".to_owned(), wanted.slug.as_str().into());
        let update = CustomerUpdate {
            kind: None,
            name: renamed.then(|| wanted.name.clone()),
            metadata: moved.then_some(metadata),
        };
        let customers = self.polar.customers();
        let updated = customers.update_by_external_id(&self.external_id, &update);
        updated.await.map_err(vanished)
    }

    /// A single person takes no other members.
    async fn make_team(&self, customer: &Customer) -> Result<Customer, Failure> {
        let update = CustomerUpdate {
            kind: Some(CustomerType::Team),
            ..CustomerUpdate::default()
        };
        let updated = self.polar.customers().update(customer.id, &update).await;
        let customer = updated.map_err(vanished)?;
        match customer.kind {
            CustomerType::Team => Ok(customer),
            _ => Err(Error::discard(
                "the customer at Polar is a single person and does not become a team",
            )
            .into()),
        }
    }

    /// Confirms what was read, and brings the members whom Polar has not confirmed.
    async fn finish(&self, wanted: &WantedCustomer, kept: Kept) -> Result<Done, Error> {
        let organization_id = self.organization;
        let customer = kept.customer.id;
        let replaced = wanted.customer.is_some_and(|known| known != customer);
        // Found for the first time, and not made by us: it may hold grants and a plan already.
        let found = kept.made_owner.is_none() && wanted.customer != Some(customer);
        let mut transaction = self.context.begin().await?;
        seen::customer_synced(
            &mut transaction,
            organization_id,
            Some(customer),
            wanted.event_id,
        )
        .await?;
        // The person before the memberships, all of which are written where the customer was replaced.
        if let Some(owner) = &kept.made_owner {
            seen::address_accepted(&mut transaction, owner).await?;
        }
        let invites =
            replaced && seen::customer_replaced(&mut transaction, organization_id).await?;
        if let Some(owner) = kept.made_owner {
            seen::member_synced(&mut transaction, organization_id, &owner).await?;
        }
        let mut members = unsynced::members_of(&mut transaction, organization_id).await?;
        if let Some(owner) = kept.displaced.filter(|owner| !members.contains(owner)) {
            members.insert(0, owner);
        }
        let members = members.into_iter().map(|user_id| {
            NewJob::of(&SyncMember {
                organization_id,
                user_id,
            })
        });
        let mut next: Vec<NewJob> = members.collect();
        if replaced || found || wanted.stale {
            unsynced::clear_stale(&mut transaction, organization_id).await?;
            next.push(NewJob::of(&ApplyBenefits::of(organization_id)));
            next.push(NewJob::of(&SyncSubscription::of(organization_id)));
        }
        if invites {
            next.push(NewJob::of(&SyncStartupProgram { organization_id }));
        }
        Ok(Done::applied().then(next).within(transaction))
    }
}

fn vanished(error: polar::Error) -> Failure {
    if error.is_not_found() {
        return Error::Retry("the customer vanished between look and change".to_owned()).into();
    }
    error.into()
}

fn no_owner(why: &str) -> Failure {
    Failure::refused(format!(
        "Polar makes no customer without an owner, and {why}; it is made when one comes"
    ))
}
