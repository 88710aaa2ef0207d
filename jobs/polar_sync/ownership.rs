//! Ownership at Polar: exactly one owner per customer, so a new one is promoted before the old one
//! is demoted or removed. Ownership waits for no address: a new owner whose address somebody else
//! still has is promoted under a stand-in.

use polar::{CustomerRef, Member, MemberUpdate, OrAbsent, Role};

use super::{Failure, PolarCustomer};
use crate::contract::Error;
use crate::mirror::wanted::{self, WantedMember};
use crate::types::UserId;

impl PolarCustomer<'_> {
    /// Gives the member the wanted role. Returns the member as it is then, and the owners before, whom Polar
    /// demotes without telling us.
    pub(crate) async fn ensure_role(
        &self,
        wanted: &WantedMember,
        member: Member,
    ) -> Result<(Member, Vec<UserId>), Failure> {
        let role = wanted.role.at_polar();
        if member.role == role {
            return Ok((member, Vec::new()));
        }
        if role == Role::Owner {
            return self.promote(wanted).await;
        }
        if member.role == Role::Owner {
            return Err(self.successor_first(wanted.user).await);
        }
        let update = MemberUpdate {
            role: Some(role),
            ..MemberUpdate::default()
        };
        match self.update(wanted, &update).await {
            Err(Failure::Other(Error::Polar(error))) if error.is_sole_owner() => Err(Error::Retry(
                format!("user {} became the owner at Polar meanwhile", wanted.user),
            )
            .into()),
            result => result.map(|member| (member, Vec::new())),
        }
    }

    /// Makes the member the owner; returns who was it before.
    async fn promote(&self, wanted: &WantedMember) -> Result<(Member, Vec<UserId>), Failure> {
        let before = self.owners().await?;
        let promotion = MemberUpdate {
            role: Some(Role::Owner),
            ..MemberUpdate::default()
        };
        let member = self.update(wanted, &promotion).await?;
        let others = before.into_iter().filter(|user| *user != wanted.user);
        Ok((member, others.collect()))
    }

    /// The people who own the customer at Polar, as far as they are ours.
    pub(crate) async fn owners(&self) -> Result<Vec<UserId>, polar::Error> {
        let customer = CustomerRef::External(&self.external_id);
        let owners = self
            .polar
            .members()
            .all_with_role(customer, &Role::Owner)
            .await?;
        // A customer made by hand gives its owner its own external id, which is no user's.
        let theirs = owners
            .iter()
            .filter_map(|owner| owner.external_id.as_deref())
            .filter(|external_id| *external_id != self.external_id);
        Ok(theirs.filter_map(UserId::parse).collect())
    }

    /// The present owner can leave or step down only after the wanted one was promoted. Only the successor's own job
    /// promotes it: another job could run late and promote somebody who is no longer to be owner.
    async fn successor_first(&self, leaving: UserId) -> Failure {
        let pool = &self.context.pool;
        let organization = match wanted::customer(pool, self.organization).await {
            Ok(organization) => organization,
            Err(error) => return error.into(),
        };
        let owner = organization.and_then(|organization| organization.owner);
        match owner.filter(|owner| *owner != leaving) {
            Some(successor) => Failure::OthersFirst {
                reason: format!(
                    "user {leaving} owns the customer at Polar until user {successor} does"
                ),
                first: successor,
                others: vec![successor],
            },
            None => Failure::Refused {
                reason: format!(
                    "user {leaving} is the only owner at Polar and no other owner is wanted; done when another owner comes"
                ),
                holder: Some(leaving),
            },
        }
    }

    /// Removes a member; one who is gone already is no error.
    pub(crate) async fn remove(&self, user: UserId) -> Result<(), Failure> {
        let member = user.to_string();
        let deleted = self
            .polar
            .members()
            .delete(&self.external_id, &member)
            .await;
        match deleted.or_absent() {
            Ok(_) => Ok(()),
            Err(error) if error.is_sole_owner() => Err(self.successor_first(user).await),
            Err(error) => Err(error.into()),
        }
    }
}
