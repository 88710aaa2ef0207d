//! Who gets mail about a customer's billing: its owner and its billing managers, as Polar has them
//! (docs/polar-facts.md#roles).

use std::collections::BTreeMap;

use polar::{Client, CustomerId, Role};

/// The addresses, sorted, each once whatever its case.
pub(crate) async fn billing_contacts(
    polar: &Client,
    customer: CustomerId,
) -> Result<Vec<String>, polar::Error> {
    let mut contacts = BTreeMap::new();
    // Two calls: of two roles in one Polar reads the last.
    for role in [Role::Owner, Role::BillingManager] {
        for member in polar
            .members()
            .all_with_role(customer.into(), &role)
            .await?
        {
            let address = member.email.trim();
            if !address.is_empty() {
                contacts
                    .entry(address.to_lowercase())
                    .or_insert_with(|| address.to_owned());
            }
        }
    }
    Ok(contacts.into_values().collect())
}
