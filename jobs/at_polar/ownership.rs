//! Ownership at Polar: exactly one owner per customer, so a new one is promoted before the old one
//! is demoted or removed (polar-domain (b.4), (b.5)).

use polar::{CustomerRef, Member, MemberUpdate, Role};

use super::{Missing, Seat};
use crate::contract::Error;
use crate::mirror::wanted::{self, WantedMember};
use crate::terms::UserId;

impl Seat<'_> {
    /// Gives the member the wanted role. Answers whom else this concerned: the owners before, whom
    /// Polar demotes without a word (R37).
    pub(crate) async fn settle_role(
        &self,
        wanted: &WantedMember,
        member: &Member,
    ) -> Result<Vec<UserId>, Error> {
        let role = wanted.role.at_polar();
        if member.role == role {
            return Ok(Vec::new());
        }
        if role == Role::Owner {
            return self.promote(wanted).await;
        }
        if member.role == Role::Owner {
            self.hand_over(wanted.user).await?;
            if role == Role::BillingManager {
                return Ok(Vec::new());
            }
        }
        match self
            .update(
                wanted,
                &MemberUpdate {
                    role: Some(role),
                    ..MemberUpdate::default()
                },
            )
            .await
        {
            Err(Error::Polar(error)) if error.is_sole_owner() => Err(Error::Retry(format!(
                "user {} became the owner at Polar meanwhile",
                wanted.user
            ))),
            result => result.map(|_| Vec::new()),
        }
    }

    /// Makes the member the owner; answers who was it before.
    async fn promote(&self, wanted: &WantedMember) -> Result<Vec<UserId>, Error> {
        let before = self.owners().await?;
        let promotion = MemberUpdate {
            role: Some(Role::Owner),
            ..MemberUpdate::default()
        };
        self.update(wanted, &promotion).await?;
        Ok(before
            .into_iter()
            .filter(|user| *user != wanted.user)
            .collect())
    }

    /// The people who own the customer at Polar, as far as they are ours.
    pub(crate) async fn owners(&self) -> Result<Vec<UserId>, Error> {
        let customer = CustomerRef::External(&self.customer);
        let owners = self
            .polar
            .members()
            .all_with_role(customer, &Role::Owner)
            .await?;
        Ok(owners
            .iter()
            .filter_map(|owner| UserId::parse(owner.external_id.as_deref()?))
            .collect())
    }

    /// Makes the wanted owner the owner at Polar, so that `leaving` can go or step down.
    pub(super) async fn hand_over(&self, leaving: UserId) -> Result<(), Error> {
        let sole = || {
            Error::discard(format!(
                "user {leaving} is the only owner at Polar and no other owner is wanted; done when another owner comes"
            ))
        };
        let pool = &self.context.pool;
        let organization = wanted::customer(pool, self.organization)
            .await?
            .ok_or_else(sole)?;
        let successor = organization
            .owner
            .filter(|owner| *owner != leaving)
            .ok_or_else(sole)?;
        let wanted = wanted::member(pool, self.organization, successor)
            .await?
            .ok_or_else(sole)?;
        let Ok(member) = self.bring(&wanted).await? else {
            return Err(Error::Retry(
                "the customer vanished while ownership moved".to_owned(),
            ));
        };
        if member.role != Role::Owner {
            self.promote(&wanted).await?;
        }
        Ok(())
    }
}

impl From<Missing> for Error {
    fn from(_: Missing) -> Self {
        Self::Retry("the customer does not exist at Polar".to_owned())
    }
}
