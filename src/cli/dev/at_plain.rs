//! The end of the demo scenario as the support desk shows it.

use simulator::PlainSimulator;

use super::fixtures::{Company, Fixtures};
use super::outcome::Outcome;

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
    let tier = match name {
        "Acme" if bought => "scale",
        "Globex" if bought => "growth",
        "Initech" if bought => "pro",
        _ => "free",
    };
    let called = match name {
        "Globex" => "Globex International",
        name => name,
    };
    let (owner, person) = (&company.owner, |name| fixtures.person(name).email);
    let mut people = match name {
        "Acme" => vec![owner.email.clone(), person("Ken"), person("Linus")],
        "Globex" => vec![owner.email.clone(), person("Dennis")],
        "Hooli" => Vec::new(),
        _ => vec![owner.email.clone()],
    };
    people.sort();
    let names = |people: Vec<String>| match people.is_empty() {
        true => "nobody".to_owned(),
        false => people.join(", "),
    };
    [
        Outcome::new(
            format!("{name}: at the support desk"),
            format!("{called}, {tier}"),
            found,
        ),
        Outcome::new(
            format!("{name}: people at the support desk"),
            names(people),
            names(plain.people_of(&id)),
        ),
    ]
}
