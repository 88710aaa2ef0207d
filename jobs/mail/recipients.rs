//! Who gets mail about a customer's billing: its owner and its billing managers, as Polar has them
//! (docs/polar-facts.md#roles).

use std::collections::BTreeMap;

use polar::{Client, CustomerId, Member, MemberId, Role};
use sqlx::PgPool;

use crate::contract::Error;
use crate::mirror::wanted;
use crate::types::{Email, OrganizationId, UserId};

/// The addresses, sorted, each once whatever its case, and one for each person.
pub(crate) async fn billing_contacts(
    pool: &PgPool,
    polar: &Client,
    organization: OrganizationId,
    customer: CustomerId,
) -> Result<Vec<String>, Error> {
    let mut contacts = BTreeMap::new();
    for member in members(polar, customer).await? {
        let address = address(pool, organization, &member).await?;
        let address = address.trim();
        if !address.is_empty() {
            contacts
                .entry(address.to_lowercase())
                .or_insert_with(|| address.to_owned());
        }
    }
    Ok(contacts.into_values().collect())
}

/// Where Polar holds a stand-in, because somebody else has the address there, the mail goes to the address itself: not
/// every mail server takes mail for a stand-in.
async fn address(
    pool: &PgPool,
    organization: OrganizationId,
    member: &Member,
) -> Result<String, sqlx::Error> {
    let user = member.external_id.as_deref().and_then(UserId::parse);
    let user = user.filter(|user| Email::is_stand_in(&member.email, *user));
    let wanted = match user {
        Some(user) => wanted::member(pool, organization, user).await?,
        None => None,
    };
    let own = wanted.and_then(|wanted| wanted.email);
    Ok(own.map_or_else(|| member.email.clone(), |own| own.as_str().to_owned()))
}

/// The owner and the billing managers, each once.
async fn members(polar: &Client, customer: CustomerId) -> Result<Vec<Member>, polar::Error> {
    let with_role = async |role: Role| polar.members().all_with_role(customer.into(), &role).await;
    // Two calls: of two roles in one Polar reads the last.
    let owners = with_role(Role::Owner).await?;
    let managers = with_role(Role::BillingManager).await?;
    // Who owned the customer manages its billing now: ownership moved between the two calls, and whoever took it
    // is in neither answer.
    let moved = owners
        .iter()
        .any(|owner| managers.iter().any(|manager| manager.id == owner.id));
    let new_owners = match moved {
        true => with_role(Role::Owner).await?,
        false => Vec::new(),
    };
    let members = owners.into_iter().chain(managers).chain(new_owners);
    // Whoever was read twice has the later address.
    let people: BTreeMap<MemberId, Member> = members.map(|member| (member.id, member)).collect();
    Ok(people.into_values().collect())
}
