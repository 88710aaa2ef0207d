//! An address that another member of the customer has at Polar, where each is taken once.
//!
//! Every job changes only the member that it is about, so that nobody is removed who has come back
//! meanwhile. A member of ours who has the address is therefore waited for: who left will be
//! removed, who wants another address will have it. Where people want each other's addresses in a
//! cycle nobody could ever go first; there each who does not own the customer leaves and comes back.
//! Two people who want the same address are a mistake that only people can correct.
//!
//! Members made by hand have no external id of ours, and none can be given to them. One with a
//! wanted address is made again; others are left alone.

use polar::{CustomerRef, Member, OrAbsent};

use super::{Failure, PolarCustomer};
use crate::mirror::out_of_step;
use crate::mirror::wanted::{self, WantedMember};
use crate::types::{Email, UserId};

/// Who has the address.
enum Holder {
    /// Made by hand. A customer made by hand gives its owner its own external id.
    ByHand,
    /// Somebody who is not known here.
    Foreign(Option<UserId>),
    /// Somebody of ours.
    Ours(WantedMember),
}

/// Frees the address that `wanted` shall have and `holder` has at Polar, or says why not.
pub(super) async fn free_address(
    customer: &PolarCustomer<'_>,
    wanted: &WantedMember,
    holder: &Member,
) -> Result<(), Failure> {
    let user = wanted.user;
    match identify(customer, holder).await? {
        Holder::ByHand if holder.role == polar::Role::Owner => Err(Failure::Waits {
            reason: format!(
                "the address of user {user} belongs to member {}, who was made by hand at Polar and owns the customer there; an owner is not removed",
                holder.id
            ),
            holder: None,
        }),
        Holder::ByHand => {
            tracing::info!(organization = %customer.organization, member = %holder.id,
                "a member made by hand at Polar is made again with our id");
            customer
                .polar
                .members()
                .delete_by_id(holder.customer_id, holder.id)
                .await
                .or_absent()?;
            Ok(())
        }
        Holder::Foreign(other) => Err(Failure::Refused {
            reason: format!(
                "the address of user {user} belongs to member {} at Polar, who is not ours; remove that member there",
                holder.id
            ),
            holder: other,
        }),
        Holder::Ours(theirs) => {
            let reason = expectation(user, &theirs, holder);
            let (pool, first) = (&customer.context.pool, theirs.user);
            let given_up = out_of_step::is_given_up(pool, customer.organization, first).await?;
            // No job of theirs comes by itself. Perhaps they waited for this very member, who left for a
            // cycle in a run that was stopped before it could tell them.
            Err(if given_up && frees(&theirs, holder) {
                Failure::OthersFirst {
                    reason,
                    first,
                    others: vec![first],
                }
            } else {
                Failure::Waits {
                    reason,
                    holder: Some(first),
                }
            })
        }
    }
}

/// Whether the address that `holder` has at Polar will be free once `theirs` is as wanted.
fn frees(theirs: &WantedMember, holder: &Member) -> bool {
    let another = |email: &Email| !email.is_same_as(&holder.email);
    theirs.removed || theirs.email.as_ref().is_some_and(another)
}

/// The reason for the wait: what is waited for.
fn expectation(user: UserId, theirs: &WantedMember, holder: &Member) -> String {
    let other = theirs.user;
    if theirs.removed {
        format!("the address of user {user} still belongs to user {other}, who left")
    } else if frees(theirs, holder) {
        format!("the address of user {user} still belongs to user {other}, who has another one now")
    } else {
        format!(
            "users {user} and {other} of one organization have the same address; Polar takes it once"
        )
    }
}

/// The same for somebody who is the member `own` at Polar already, where Polar does not say who has
/// the address.
pub(super) async fn free_address_for_member(
    customer: &PolarCustomer<'_>,
    wanted: &WantedMember,
    email: &Email,
    own: &Member,
) -> Result<(), Failure> {
    let members = customer
        .polar
        .members()
        .all(CustomerRef::External(&customer.external_id))
        .await?;
    let Some(holder) = holder_of(&members, email).filter(|holder| holder.id != own.id) else {
        return Ok(());
    };
    let Some(others) = cycle(customer, &members, email, own).await? else {
        return free_address(customer, wanted, holder).await;
    };
    // A cycle goes through people of ours only.
    let first = others.first().copied().unwrap_or(wanted.user);
    let owns = own.role == polar::Role::Owner || wanted.role.at_polar() == polar::Role::Owner;
    if !owns {
        let user = wanted.user.to_string();
        let members = customer.polar.members();
        members
            .delete(&customer.external_id, &user)
            .await
            .or_absent()?;
    }
    Err(Failure::OthersFirst {
        reason: format!(
            "user {} and {} others want each other's addresses; whoever does not own the customer leaves and comes back",
            wanted.user,
            others.len()
        ),
        first,
        others,
    })
}

/// The others in the cycle of members in which each wants the address of the next, and the last the
/// address of `own`; `None` if there is none.
async fn cycle(
    customer: &PolarCustomer<'_>,
    members: &[Member],
    email: &Email,
    own: &Member,
) -> Result<Option<Vec<UserId>>, Failure> {
    let mut others = Vec::new();
    let mut wants = email.clone();
    while others.len() < members.len() {
        let Some(holder) = holder_of(members, &wants) else {
            return Ok(None);
        };
        if holder.id == own.id {
            return Ok(Some(others));
        }
        match identify(customer, holder).await? {
            Holder::Ours(WantedMember {
                removed: false,
                email: Some(next),
                user,
                ..
            }) => {
                others.push(user);
                wants = next;
            }
            _ => return Ok(None),
        }
    }
    Ok(None)
}

fn holder_of<'a>(members: &'a [Member], email: &Email) -> Option<&'a Member> {
    members
        .iter()
        .find(|member| email.is_same_as(&member.email))
}

async fn identify(customer: &PolarCustomer<'_>, holder: &Member) -> Result<Holder, Failure> {
    let Some(external_id) = holder.external_id.as_deref() else {
        return Ok(Holder::ByHand);
    };
    if external_id == customer.external_id {
        return Ok(Holder::ByHand);
    }
    let Some(user) = UserId::parse(external_id) else {
        return Ok(Holder::Foreign(None));
    };
    let theirs = wanted::member(&customer.context.pool, customer.organization, user).await?;
    Ok(theirs.map_or(Holder::Foreign(Some(user)), Holder::Ours))
}
