//! The end of the demo scenario as Polar shows it: people, subscriptions, and what its grants allow.

use jobs::contract::Fees;
use serde_json::Value;
use simulator::Simulator;
use simulator::records::GrantRecord;

use super::expected::Expected;
use super::fixtures::{Company, Fixtures};
use super::outcome::Outcome;

/// The customer and its people.
pub(super) fn outcomes(polar: &Simulator, fixtures: &Fixtures, company: &Company) -> Vec<Outcome> {
    let external = company.external_id();
    let name = company.name;
    let customer = polar
        .customers()
        .into_iter()
        .find(|row| row.external_id.as_deref() == Some(&*external));
    let found = match &customer {
        None => "nobody".to_owned(),
        Some(row) if row.deleted_at.is_some() => "gone".to_owned(),
        Some(row) => {
            let slug = row
                .metadata
                .get("slug")
                .and_then(Value::as_str)
                .unwrap_or_default();
            format!("{} ({slug})", row.name.as_deref().unwrap_or_default())
        }
    };
    let expected = &company.expected;
    if expected.has_left() {
        return vec![Outcome::new(
            format!("{name}: customer at Polar"),
            "gone",
            found,
        )];
    }
    vec![
        Outcome::new(
            format!("{name}: customer at Polar"),
            format!("{} ({})", expected.name, company.slug),
            found,
        ),
        Outcome::new(
            format!("{name}: people at Polar"),
            people_wanted(fixtures, expected),
            people_found(polar, fixtures, &external),
        ),
    ]
}

fn people_wanted(fixtures: &Fixtures, expected: &Expected) -> String {
    let members = expected.people.iter();
    let people = members.map(|member| {
        let email = fixtures.person(member.person).email;
        (email, member.role_at_polar().to_owned())
    });
    shown(fixtures, people)
}

fn people_found(polar: &Simulator, fixtures: &Fixtures, external: &str) -> String {
    shown(
        fixtures,
        polar
            .members(external)
            .into_iter()
            .map(|member| (member.email, member.role)),
    )
}

/// Addresses of this run are shown without what they share; any other address stays whole.
fn shown(fixtures: &Fixtures, people: impl Iterator<Item = (String, String)>) -> String {
    let host = fixtures.host();
    let mut people: Vec<String> = people
        .map(|(email, role)| format!("{} {role}", email.strip_suffix(&host).unwrap_or(&email)))
        .collect();
    people.sort();
    people.join(", ")
}

/// The newest subscription.
pub(super) fn subscription(polar: &Simulator, company: &Company) -> String {
    let newest = polar
        .subscriptions(&company.external_id())
        .into_iter()
        .max_by_key(|row| row.current_period_start);
    newest.map_or_else(
        || "none".to_owned(),
        |row| subscription_text(&row.status, row.amount, row.cancel_at_period_end),
    )
}

pub(super) fn subscription_text(status: &str, amount: i64, cancel_at_period_end: bool) -> String {
    let ends = if cancel_at_period_end {
        ", ends with its period"
    } else {
        ""
    };
    format!("{status} at {amount} cents{ends}")
}

/// Support, preview and single sign-on, as the grants held now say.
pub(super) fn rights(polar: &Simulator, company: &Company) -> String {
    let held = held(polar, company);
    let of_type = |wanted: &str| {
        held.iter()
            .find(|grant| grant.benefit_type.as_deref() == Some(wanted))
    };
    let level = of_type("support").and_then(|grant| grant.metadata["level"].as_i64());
    let tier = match level {
        Some(2) => "pro",
        Some(3) => "growth",
        Some(4) => "scale",
        _ => "no",
    };
    let flag = |wanted: &str, shown: &str| {
        if of_type(wanted).is_some() {
            format!(" {shown}")
        } else {
            String::new()
        }
    };
    format!(
        "{tier} support{}{}",
        flag("preview_access", "preview"),
        flag("sso", "sso")
    )
}

/// Fees, as the grant held now says, else the platform's.
pub(super) fn fees(polar: &Simulator, company: &Company, platform: Fees) -> String {
    let held = held(polar, company);
    let grant = held
        .iter()
        .find(|grant| grant.benefit_type.as_deref() == Some("transaction_fee"));
    match grant {
        Some(grant) => {
            let value = |key: &str| {
                grant
                    .metadata
                    .get(key)
                    .and_then(Value::as_i64)
                    .unwrap_or_default()
            };
            format!(
                "{}/{}/{}",
                value("fee_percent"),
                value("fee_fixed"),
                value("subscription_fee_percent")
            )
        }
        None => format!(
            "{}/{}/{}",
            platform.basis_points, platform.fixed, platform.subscription_basis_points
        ),
    }
}

fn held(polar: &Simulator, company: &Company) -> Vec<GrantRecord> {
    polar
        .grants(&company.external_id())
        .into_iter()
        .filter(|grant| grant.is_granted)
        .collect()
}
