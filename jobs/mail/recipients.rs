//! Who gets mail about a customer's billing: its owner and its billing managers, as Polar has them
//! (docs/polar-facts.md#roles).

use std::collections::BTreeMap;

use polar::{Client, CustomerId, Member, MemberId, Role};

/// The addresses, sorted, each once whatever its case, and one for each person.
pub(crate) async fn billing_contacts(
    polar: &Client,
    customer: CustomerId,
) -> Result<Vec<String>, polar::Error> {
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
    let mut contacts = BTreeMap::new();
    for member in people.into_values() {
        let address = member.email.trim();
        if !address.is_empty() {
            contacts
                .entry(address.to_lowercase())
                .or_insert_with(|| address.to_owned());
        }
    }
    Ok(contacts.into_values().collect())
}
