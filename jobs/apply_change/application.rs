//! How each type of change is written into the mirror.

use sqlx::PgConnection;

use crate::change::Change;
use crate::contract::NewJob;
use crate::mirror::organizations::{NewOrganization, OrganizationUpdate, Standing};
use crate::mirror::{members, organizations};
use crate::types::{Email, OrganizationId, Person, Role, UserId};
use crate::{MeterUsage, ReportCosts, SyncCustomer, SyncMember, SyncSupportDesk};

/// Why a change was not written.
pub(super) enum NotApplied {
    /// There was nothing to do, for this reason.
    Ignored(&'static str),
    /// The database failed.
    Database(sqlx::Error),
}

impl From<sqlx::Error> for NotApplied {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

/// The jobs that follow from a change that was written.
type Applied = Result<Vec<NewJob>, NotApplied>;

/// One change on its way into the mirror.
pub(super) struct Application<'a> {
    pub(super) connection: &'a mut PgConnection,
    pub(super) event: i64,
    /// Whether there is a support desk. What comes without one is found once there is.
    pub(super) support_desk: bool,
}

/// A newer change has been applied already.
const STALE: NotApplied = NotApplied::Ignored("a newer change was applied before");
const DELETED: NotApplied = NotApplied::Ignored("the organization was deleted");
const NO_MEMBER: NotApplied =
    NotApplied::Ignored("not an active member, or a newer change was applied before");

impl Application<'_> {
    /// Writes the change.
    pub(super) async fn apply(mut self, change: &Change) -> Applied {
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
                let update = OrganizationUpdate {
                    id: *organization,
                    name: name.as_deref(),
                    slug: slug.as_deref(),
                    status: status.as_deref(),
                };
                self.update(&update).await
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
                self.rename(*user, email.as_ref(), name.as_deref()).await
            }
            Change::UsageRecorded(_) | Change::CostRecorded(_) => {
                Err(NotApplied::Ignored("readings are counted, not applied"))
            }
        }
    }

    async fn rename(&mut self, user: UserId, email: Option<&Email>, name: Option<&str>) -> Applied {
        members::upsert_person(self.connection, user, email, name, self.event).await?;
        Ok(self.everywhere(user).await?)
    }

    /// Writes what is said of a person on the way. News about somebody known concern every
    /// organization of theirs.
    async fn upsert_person(&mut self, person: &Person) -> Result<Vec<NewJob>, sqlx::Error> {
        let (email, name) = (Some(&person.email), person.name.as_deref());
        match members::upsert_person(self.connection, person.id, email, name, self.event).await? {
            true => self.everywhere(person.id).await,
            false => Ok(Vec::new()),
        }
    }

    /// The syncs of a person in every living organization.
    async fn everywhere(&mut self, user: UserId) -> Result<Vec<NewJob>, sqlx::Error> {
        let mut next = Vec::new();
        for organization in members::organizations_of(self.connection, user).await? {
            next.extend(self.syncs(organization, user).await?);
        }
        Ok(next)
    }

    async fn create(&mut self, new: &NewOrganization<'_>, owner: &Person) -> Applied {
        if !organizations::create(self.connection, new, self.event).await? {
            return Err(STALE);
        }
        let mut next = vec![NewJob::of(&SyncCustomer {
            organization_id: new.id,
        })];
        next.extend(self.support_desk(new.id));
        next.extend(self.upsert_person(owner).await?);
        members::upsert_membership(self.connection, new.id, owner.id, Role::Owner, self.event)
            .await?;
        Ok(next)
    }

    async fn update(&mut self, update: &OrganizationUpdate<'_>) -> Applied {
        if self.standing(update.id).await? == Standing::Unknown {
            return Err(NotApplied::Ignored(
                "the organization is not created yet; its creation will say everything",
            ));
        }
        if !organizations::update(self.connection, update, self.event).await? {
            return Err(STALE);
        }
        let customer = NewJob::of(&SyncCustomer {
            organization_id: update.id,
        });
        let support_desk = self.support_desk(update.id);
        Ok([customer].into_iter().chain(support_desk).collect())
    }

    async fn delete(&mut self, organization: OrganizationId) -> Applied {
        match organizations::standing(self.connection, organization).await? {
            Standing::Unknown => {
                return Err(NotApplied::Ignored("the organization was never created"));
            }
            Standing::Deleted => {
                return Err(NotApplied::Ignored("the organization was deleted before"));
            }
            Standing::Living | Standing::Recreated => {}
        }
        if !organizations::delete(self.connection, organization, self.event).await? {
            return Err(STALE);
        }
        // The customer goes once its last usage and costs are reported: count them now.
        let next = [
            NewJob::of(&SyncCustomer {
                organization_id: organization,
            }),
            NewJob::of(&MeterUsage {}),
            NewJob::of(&ReportCosts {}),
        ];
        let support_desk = self.support_desk(organization);
        Ok(next.into_iter().chain(support_desk).collect())
    }

    async fn add(&mut self, organization: OrganizationId, person: &Person, role: Role) -> Applied {
        let standing = self.standing(organization).await?;
        let elsewhere = self.upsert_person(person).await?;
        let written =
            members::upsert_membership(self.connection, organization, person.id, role, self.event)
                .await?;
        let mut next = match written {
            true => self.follow_ups(standing, organization, person.id).await?,
            false if elsewhere.is_empty() => return Err(STALE),
            false => Vec::new(),
        };
        next.extend(elsewhere);
        Ok(next)
    }

    async fn change_role(
        &mut self,
        organization: OrganizationId,
        user: UserId,
        role: Role,
    ) -> Applied {
        if role == Role::Owner {
            return self.transfer(organization, user).await;
        }
        let standing = self.standing(organization).await?;
        if !members::change_role(self.connection, organization, user, role, self.event).await? {
            return Err(NO_MEMBER);
        }
        self.follow_ups(standing, organization, user).await
    }

    async fn remove(&mut self, organization: OrganizationId, user: UserId) -> Applied {
        let standing = self.standing(organization).await?;
        if !members::leave(self.connection, organization, user, self.event).await? {
            return Err(NO_MEMBER);
        }
        self.follow_ups(standing, organization, user).await
    }

    async fn transfer(&mut self, organization: OrganizationId, user: UserId) -> Applied {
        let standing = self.standing(organization).await?;
        if !members::make_owner(self.connection, organization, user, self.event).await? {
            return Err(STALE);
        }
        self.follow_ups(standing, organization, user).await
    }

    /// How an organization stands that was not deleted.
    async fn standing(&mut self, organization: OrganizationId) -> Result<Standing, NotApplied> {
        match organizations::standing(self.connection, organization).await? {
            Standing::Deleted => Err(DELETED),
            standing => Ok(standing),
        }
    }

    /// What follows from a membership that was written. Before the organization is announced
    /// nothing goes to Polar; its creation brings every member.
    async fn follow_ups(
        &mut self,
        standing: Standing,
        organization: OrganizationId,
        user: UserId,
    ) -> Applied {
        match standing {
            Standing::Living | Standing::Recreated => Ok(self.syncs(organization, user).await?),
            Standing::Unknown | Standing::Deleted => Ok(Vec::new()),
        }
    }

    /// The syncs of one member; with the customer, where it could not be made for want of a usable
    /// owner.
    async fn syncs(
        &mut self,
        organization_id: OrganizationId,
        user_id: UserId,
    ) -> Result<Vec<NewJob>, sqlx::Error> {
        let member = SyncMember {
            organization_id,
            user_id,
        };
        let mut jobs = vec![NewJob::of(&member)];
        if members::owns_without_customer(self.connection, organization_id, user_id).await? {
            jobs.insert(0, NewJob::of(&SyncCustomer { organization_id }));
        }
        if self.support_desk {
            jobs.push(SyncSupportDesk::of_member(organization_id, user_id));
        }
        Ok(jobs)
    }

    /// The sync of an organization with the support desk, if there is one.
    fn support_desk(&self, organization: OrganizationId) -> Option<NewJob> {
        self.support_desk.then(|| SyncSupportDesk::of(organization))
    }
}
