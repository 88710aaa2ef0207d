//! The end of the demo scenario as the support desk shows it.

use simulator::PlainSimulator;

use super::fixtures::{Company, Fixtures};
use super::outcome::{Outcome, names};

/// The tenant with its tier, and who belongs to it.
pub(super) fn outcomes(
    plain: &PlainSimulator,
    fixtures: &Fixtures,
    company: &Company,
    bought: bool,
) -> [Outcome; 2] {
    let name = company.name;
    let id = company.external_id();
    let found = plain.tenant(&id).map_or_else(
        || "nobody".to_owned(),
        |tenant| format!("{}, {}", tenant.name, tenant.tier.as_deref().unwrap_or("-")),
    );
    let expected = &company.expected;
    let tier = if bought {
        expected.support_tier
    } else {
        "free"
    };
    let members = expected.people.iter();
    let mut people: Vec<String> = members
        .map(|member| fixtures.person(member.person).email)
        .collect();
    people.sort();
    [
        Outcome::new(
            format!("{name}: at the support desk"),
            format!("{}, {tier}", expected.name),
            found,
        ),
        Outcome::new(
            format!("{name}: people at the support desk"),
            names(people),
            names(plain.people_of(&id)),
        ),
    ]
}
