//! The people of a customer.

use polar::{CustomerId, Member, Role};
use serde_json::{Value, json};

use super::fields::differing;
use super::{ForeignMember, Found, cause_of, sync_member};
use crate::mirror::differences::{Difference, STRANGER};
use crate::mirror::held::{HeldMember, HeldOrganization};
use crate::types::{OrganizationId, UserId};

/// Somebody left, and is at Polar still.
const LEFT_OVER: &str = "left over at Polar";
const NOT_OURS: &str = "made at Polar by somebody else";

pub(super) fn differ(
    organization: OrganizationId,
    held: &HeldOrganization,
    customer: CustomerId,
    members: &[Member],
) -> Vec<Found> {
    let known = held
        .members
        .iter()
        .filter_map(|wanted| differs(organization, held, wanted, at_polar(members, wanted.user)));
    let foreign = members.iter().filter(|member| {
        let user = user_of(member);
        !held.members.iter().any(|known| Some(known.user) == user)
    });
    known
        .chain(foreign.map(|member| stranger(customer, member)))
        .collect()
}

/// Polar compares external ids byte by byte, so ours are written in one way only.
fn user_of(member: &Member) -> Option<UserId> {
    let text = member.external_id.as_deref()?;
    UserId::parse(text).filter(|user| user.to_string() == text)
}

fn at_polar(members: &[Member], user: UserId) -> Option<&Member> {
    members.iter().find(|member| user_of(member) == Some(user))
}

fn differs(
    organization: OrganizationId,
    held: &HeldOrganization,
    wanted: &HeldMember,
    found: Option<&Member>,
) -> Option<Found> {
    let subject = format!("member/{}", wanted.user);
    let cause = cause_of(held, &subject, wanted.is_confirmed);
    let (wanted_fields, found_fields, cause) = match (wanted.removed, found) {
        (true, None) => return None,
        (true, Some(member)) => {
            let cause = if wanted.is_confirmed {
                LEFT_OVER.to_owned()
            } else {
                cause
            };
            let found = match wanted.is_erased() {
                true => json!({"role": member.role.as_str()}),
                false => fields_of(member),
            };
            (None, Some(found), cause)
        }
        (false, None) => (Some(fields(wanted)), None, cause),
        (false, Some(member)) => {
            let (wanted, found) = differing(fields(wanted), comparable(wanted, member))?;
            (Some(wanted), Some(found), cause)
        }
    };
    Some(Found {
        difference: Difference {
            subject,
            wanted: wanted_fields,
            found: found_fields,
            cause,
        },
        repair: Some(sync_member(organization, wanted.user)),
        foreign_member: None,
    })
}

fn fields(wanted: &HeldMember) -> Value {
    json!({
        "email": wanted.email.as_ref().map(crate::types::Email::as_str),
        "name": wanted.name,
        "role": wanted.role.at_polar().as_str(),
    })
}

fn fields_of(member: &Member) -> Value {
    json!({"email": member.email, "name": member.name, "role": member.role.as_str()})
}

/// As Polar has the member, but an address that is the same mailbox is the same address.
fn comparable(wanted: &HeldMember, member: &Member) -> Value {
    let mut fields = fields_of(member);
    match &wanted.email {
        Some(email) if !email.is_same_as(&member.email) => {}
        email => fields["email"] = json!(email.as_ref().map(crate::types::Email::as_str)),
    }
    fields
}

/// Reported, and deleted only where that is asked for; a customer keeps its owner in any case.
fn stranger(customer: CustomerId, member: &Member) -> Found {
    Found {
        difference: Difference {
            subject: format!("{STRANGER}member/{}", member.id),
            wanted: None,
            found: Some(fields_of(member)),
            cause: NOT_OURS.to_owned(),
        },
        repair: None,
        foreign_member: (member.role != Role::Owner).then(|| ForeignMember {
            customer,
            id: member.id,
            user: user_of(member),
        }),
    }
}
