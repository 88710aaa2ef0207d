//! An address that another member of the customer has at Polar (polar-domain (b.3)).
//!
//! External ids cannot be changed there, so the other member is looked at with our eyes: whoever
//! left is removed, whoever has moved on to another address is waited for, and two people who
//! want the same address are a mistake that only people can mend.

use polar::{CustomerRef, Member, OrAbsent};

use super::{Seat, patience};
use crate::contract::Error;
use crate::mirror::wanted::{self, WantedMember};
use crate::terms::UserId;

/// Frees the address of `wanted`, which `holder` has at Polar.
pub(super) async fn free_address(
    seat: &Seat<'_>,
    wanted: &WantedMember,
    holder: &Member,
) -> Result<(), Error> {
    let Some(other) = holder.external_id.as_deref().and_then(UserId::parse) else {
        return Err(Error::discard(format!(
            "the address of user {} belongs to member {} at Polar, who is not ours; remove that member there",
            wanted.user, holder.id
        )));
    };
    let reason = match wanted::member(&seat.context.pool, seat.organization, other).await? {
        Some(theirs) if theirs.removed => {
            // Boxed: removing an owner may bring another member, who may meet a clash in turn.
            return Box::pin(seat.remove(other)).await.map(|_| ());
        }
        Some(theirs) if moves_on(&theirs, holder) => {
            format!(
                "the address of user {} still belongs to user {other}, who has another one now",
                wanted.user
            )
        }
        _ => format!(
            "users {} and {other} of one organization have the same address; Polar takes it once",
            wanted.user
        ),
    };
    // Their own change may be on its way.
    Err(match patience(seat.context) {
        Some(wait) => Error::not_yet(reason, wait),
        None => Error::discard(reason),
    })
}

/// The same where Polar did not say who has the address.
pub(super) async fn free_address_of_unknown(
    seat: &Seat<'_>,
    wanted: &WantedMember,
) -> Result<(), Error> {
    let members = seat
        .polar
        .members()
        .all(CustomerRef::External(&seat.customer))
        .await?;
    let user = wanted.user.to_string();
    let holder = members.iter().find(|member| {
        member.external_id.as_deref() != Some(user.as_str())
            && wanted
                .email
                .as_ref()
                .is_some_and(|email| email.is_same_as(&member.email))
    });
    match holder {
        Some(holder) => free_address(seat, wanted, holder).await,
        None => Ok(()),
    }
}

fn moves_on(theirs: &WantedMember, holder: &Member) -> bool {
    theirs
        .email
        .as_ref()
        .is_some_and(|email| !email.is_same_as(&holder.email))
}

impl Seat<'_> {
    /// Removes a member. `true` = it was there.
    pub(crate) async fn remove(&self, user: UserId) -> Result<bool, Error> {
        let member = user.to_string();
        let deleted = self.polar.members().delete(&self.customer, &member).await;
        match deleted.or_absent() {
            Ok(removed) => Ok(removed.is_some()),
            // The new owner is promoted before the old one goes (contract 8, "Owner").
            Err(error) if error.is_sole_owner() => {
                self.hand_over(user).await?;
                Ok(self
                    .polar
                    .members()
                    .delete(&self.customer, &member)
                    .await
                    .or_absent()?
                    .is_some())
            }
            Err(error) => Err(error.into()),
        }
    }
}
