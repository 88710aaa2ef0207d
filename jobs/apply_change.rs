//! Writes a change of the application into the mirror, and starts what follows from it.
//!
//! Nothing here talks to Polar. Changes of one organization are applied in the order they were
//! committed (the ordering key is [`Change::ordering_key`]); a replayed one finds newer news in
//! its place and is ignored.

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use crate::change::{self, Change, Fault};
use crate::contract::{Context, Done, Error, Fees, Job, NewJob};
use crate::mirror::organizations::{NewOrganization, Standing};
use crate::mirror::{events, members, organizations};
use crate::terms::{OrganizationId, Person, Role, UserId};
use crate::{SyncCustomer, SyncMember};

/// Apply one stored change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyChange {
    /// The stored event.
    pub event: i64,
}

/// What an application of a change came to: follow-ups, or the reason why there was nothing to do.
type Applied = Result<Vec<NewJob>, &'static str>;

impl ApplyChange {
    /// The job of a stored change; `None` for readings, which are counted and not applied.
    #[must_use]
    pub fn for_event(event: i64, change: &Change) -> Option<NewJob> {
        let ordering_key = change.ordering_key()?;
        let mut job = NewJob::of(&Self { event }).caused_by(event);
        job.ordering_key = Some(ordering_key);
        Some(job)
    }
}

impl Job for ApplyChange {
    const KIND: &'static str = "apply_change";

    async fn run(self, context: &Context) -> Result<Done, Error> {
        let stored = events::change(&context.pool, self.event).await?;
        let stored = stored
            .ok_or_else(|| Error::discard(format!("event {} is no stored change", self.event)))?;
        let change = change::parse_stored(&stored.change_type, &stored.data)
            .map_err(|faults| refused(&faults))?;
        let mut transaction = context.begin().await?;
        let applied = Application {
            connection: &mut transaction,
            event: self.event,
            platform_fees: context.settings.platform_fees,
        };
        Ok(match applied.apply(&change).await? {
            Ok(next) => Done::applied().then(next).within(transaction),
            Err(reason) => Done::ignored(reason),
        })
    }
}

fn refused(faults: &[Fault]) -> Error {
    let list: Vec<String> = faults
        .iter()
        .map(|fault| format!("{} {}", fault.pointer, fault.message))
        .collect();
    Error::discard(format!(
        "the stored change is not valid: {}",
        list.join("; ")
    ))
}

/// One change on its way into the mirror.
struct Application<'a> {
    connection: &'a mut PgConnection,
    event: i64,
    platform_fees: Fees,
}

/// A newer change has been applied already.
const STALE: &str = "a newer change was applied before";
const DELETED: &str = "the organization was deleted";

impl Application<'_> {
    async fn apply(mut self, change: &Change) -> Result<Applied, sqlx::Error> {
        match change {
            Change::OrganizationCreated {
                organization,
                name,
                slug,
                status,
                owner,
                fees,
            } => {
                let new = NewOrganization {
                    id: *organization,
                    name,
                    slug,
                    status,
                    fees: *fees,
                };
                self.create(&new, owner).await
            }
            Change::OrganizationUpdated {
                organization,
                name,
                slug,
                status,
            } => {
                self.update(
                    *organization,
                    name.as_deref(),
                    slug.as_deref(),
                    status.as_deref(),
                )
                .await
            }
            Change::OrganizationDeleted { organization } => self.delete(*organization).await,
            Change::MemberAdded {
                organization,
                user,
                role,
            } => self.add(*organization, user, *role).await,
            Change::MemberUpdated {
                organization,
                user,
                role,
            } => self.change_role(*organization, *user, *role).await,
            Change::MemberRemoved { organization, user } => self.remove(*organization, *user).await,
            Change::OwnershipTransferred { organization, user } => {
                self.transfer(*organization, *user).await
            }
            Change::UserUpdated { user, email, name } => {
                members::meet(
                    self.connection,
                    *user,
                    email.as_ref(),
                    name.as_deref(),
                    self.event,
                )
                .await?;
                let organizations = members::organizations_of(self.connection, *user).await?;
                Ok(Ok(organizations
                    .into_iter()
                    .flat_map(|organization| syncs(organization, *user))
                    .collect()))
            }
            Change::UsageRecorded(_) | Change::CostRecorded(_) => {
                Ok(Err("readings are counted, not applied"))
            }
        }
    }

    async fn create(
        &mut self,
        new: &NewOrganization<'_>,
        owner: &Person,
    ) -> Result<Applied, sqlx::Error> {
        if !organizations::create(self.connection, new, self.event).await? {
            return Ok(Err(STALE));
        }
        organizations::open_account(
            self.connection,
            new.id,
            new.fees.unwrap_or(self.platform_fees),
        )
        .await?;
        members::join(self.connection, new.id, owner, Role::Owner, self.event).await?;
        Ok(Ok(vec![NewJob::of(&SyncCustomer {
            organization_id: new.id,
        })]))
    }

    async fn update(
        &mut self,
        organization: OrganizationId,
        name: Option<&str>,
        slug: Option<&str>,
        status: Option<&str>,
    ) -> Result<Applied, sqlx::Error> {
        match organizations::standing(self.connection, organization).await? {
            Standing::Unknown => {
                return Ok(Err(
                    "the organization is not created yet; its creation will say everything",
                ));
            }
            Standing::Deleted => return Ok(Err(DELETED)),
            Standing::Living => {}
        }
        if !organizations::update(
            self.connection,
            organization,
            name,
            slug,
            status,
            self.event,
        )
        .await?
        {
            return Ok(Err(STALE));
        }
        Ok(Ok(vec![NewJob::of(&SyncCustomer {
            organization_id: organization,
        })]))
    }

    async fn delete(&mut self, organization: OrganizationId) -> Result<Applied, sqlx::Error> {
        match organizations::standing(self.connection, organization).await? {
            Standing::Unknown => return Ok(Err("the organization was never created")),
            Standing::Deleted => return Ok(Err("the organization was deleted before")),
            Standing::Living => {}
        }
        if !organizations::delete(self.connection, organization, self.event).await? {
            return Ok(Err(STALE));
        }
        Ok(Ok(vec![NewJob::of(&SyncCustomer {
            organization_id: organization,
        })]))
    }

    async fn add(
        &mut self,
        organization: OrganizationId,
        person: &Person,
        role: Role,
    ) -> Result<Applied, sqlx::Error> {
        let standing = organizations::standing(self.connection, organization).await?;
        if standing == Standing::Deleted {
            return Ok(Err(DELETED));
        }
        let written =
            members::join(self.connection, organization, person, role, self.event).await?;
        Ok(followed(written, STALE, standing, organization, person.id))
    }

    async fn change_role(
        &mut self,
        organization: OrganizationId,
        user: UserId,
        role: Role,
    ) -> Result<Applied, sqlx::Error> {
        if role == Role::Owner {
            return self.transfer(organization, user).await;
        }
        let standing = organizations::standing(self.connection, organization).await?;
        if standing == Standing::Deleted {
            return Ok(Err(DELETED));
        }
        let written =
            members::change_role(self.connection, organization, user, role, self.event).await?;
        Ok(followed(
            written,
            "not an active member, or a newer change was applied before",
            standing,
            organization,
            user,
        ))
    }

    async fn remove(
        &mut self,
        organization: OrganizationId,
        user: UserId,
    ) -> Result<Applied, sqlx::Error> {
        let standing = organizations::standing(self.connection, organization).await?;
        if standing == Standing::Deleted {
            return Ok(Err(DELETED));
        }
        let written = members::leave(self.connection, organization, user, self.event).await?;
        Ok(followed(
            written,
            "not an active member, or a newer change was applied before",
            standing,
            organization,
            user,
        ))
    }

    async fn transfer(
        &mut self,
        organization: OrganizationId,
        user: UserId,
    ) -> Result<Applied, sqlx::Error> {
        let standing = organizations::standing(self.connection, organization).await?;
        if standing == Standing::Deleted {
            return Ok(Err(DELETED));
        }
        let written = members::make_owner(self.connection, organization, user, self.event).await?;
        Ok(followed(written, STALE, standing, organization, user))
    }
}

/// The syncs of a membership that was written. Before the organization is announced nothing goes
/// to Polar; its creation brings every member (contract 8, "Early changes").
fn followed(
    written: bool,
    otherwise: &'static str,
    standing: Standing,
    organization: OrganizationId,
    user: UserId,
) -> Applied {
    match (written, standing) {
        (false, _) => Err(otherwise),
        (true, Standing::Living) => Ok(syncs(organization, user)),
        (true, _) => Ok(Vec::new()),
    }
}

fn syncs(organization: OrganizationId, user: UserId) -> Vec<NewJob> {
    vec![NewJob::of(&SyncMember {
        organization_id: organization,
        user_id: user,
    })]
}
