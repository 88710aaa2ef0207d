//! Which fields each type of change has.

use serde_json::Value;

use super::fields::{
    Faults, Fields, cost, email, escaped, integer, name, organization_id, person_name, role, text,
    time, user_id,
};
use super::{Change, ChangeType, Fault, ParsedChange};
use crate::contract::Fees;
use crate::types::{CostReading, MAX_QUANTITY, Person, UsageReading};

/// Metadata text, where the slug goes, has at most so many characters at Polar.
const SLUG: usize = 500;
/// `{source}.{context}` names an event, of at most 128 characters at Polar.
const SOURCE: usize = 63;
const CONTEXT: usize = 63;
/// Everything else that is short by nature.
const WORD: usize = 200;
/// The application's own ids.
const ID: usize = 512;

pub(super) fn envelope(value: &Value) -> Result<ParsedChange, Vec<Fault>> {
    let faults = Faults::default();
    refuse_nul(value, "", &faults);
    let parsed = Fields::of(value, "", &faults).and_then(|envelope| {
        let id = envelope.optional("id", text::<ID>);
        let occurred_at = envelope.optional("occurred_at", time);
        let change_type = envelope.required("type", known_type);
        let data = envelope.object("data");
        envelope.refuse_unknown();
        let (change_type, data) = (change_type?, data?);
        let change = change(change_type, &data);
        data.refuse_unknown();
        Some(ParsedChange {
            id: id?,
            occurred_at: occurred_at?,
            change: change?,
        })
    });
    finish(parsed, faults)
}

pub(super) fn stored(change_type: &str, data: &Value) -> Result<Change, Vec<Fault>> {
    let faults = Faults::default();
    let known = ChangeType::parse(change_type);
    if known.is_none() {
        faults.add("/type", "is unknown");
    }
    let parsed = Fields::of(data, "/data", &faults).and_then(|data| change(known?, &data));
    // A newer release may have stored fields that this one does not know.
    faults.forget_unknown();
    finish(parsed, faults)
}

fn finish<T>(parsed: Option<T>, faults: Faults) -> Result<T, Vec<Fault>> {
    let faults = faults.into_vec();
    match parsed {
        Some(parsed) if faults.is_empty() => Ok(parsed),
        _ => Err(faults),
    }
}

fn known_type(value: &Value) -> Result<ChangeType, String> {
    let known = value.as_str().and_then(ChangeType::parse);
    known.ok_or_else(|| {
        let names = ChangeType::ALL.map(ChangeType::as_str);
        format!("must be one of {}", names.join(", "))
    })
}

/// Postgres stores no NUL character, wherever it hides.
fn refuse_nul(value: &Value, at: &str, faults: &Faults) {
    const MESSAGE: &str = "must not contain the NUL character";
    match value {
        Value::String(text) if text.contains('\0') => faults.add(at, MESSAGE),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                refuse_nul(item, &format!("{at}/{index}"), faults);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                if name.contains('\0') {
                    faults.add(
                        at,
                        "must not have a field whose name contains the NUL character",
                    );
                } else {
                    refuse_nul(field, &format!("{at}/{}", escaped(name)), faults);
                }
            }
        }
        _ => {}
    }
}

fn change(change_type: ChangeType, data: &Fields<'_>) -> Option<Change> {
    match change_type {
        ChangeType::OrganizationCreated => organization_created(data),
        ChangeType::OrganizationUpdated => organization_updated(data),
        ChangeType::OrganizationDeleted => Some(Change::OrganizationDeleted {
            organization: data.required("id", organization_id)?,
        }),
        ChangeType::MemberAdded => member_added(data),
        ChangeType::MemberUpdated => member_updated(data),
        ChangeType::MemberRemoved => {
            let (organization, user) = (
                data.required("organization_id", organization_id),
                data.required("user_id", user_id),
            );
            Some(Change::MemberRemoved {
                organization: organization?,
                user: user?,
            })
        }
        ChangeType::UserUpdated => user_updated(data),
        ChangeType::OwnershipTransferred => {
            let (organization, user) = (
                data.required("organization_id", organization_id),
                data.required("user_id", user_id),
            );
            Some(Change::OwnershipTransferred {
                organization: organization?,
                user: user?,
            })
        }
        ChangeType::UsageRecorded => usage_recorded(data),
        ChangeType::CostRecorded => cost_recorded(data),
    }
}

fn organization_created(data: &Fields<'_>) -> Option<Change> {
    let organization = data.required("id", organization_id);
    let name = data.required("name", name);
    let slug = data.required("slug", text::<SLUG>);
    let status = data.optional("status", text::<WORD>);
    let owner = data.object("owner").and_then(|owner| person(&owner));
    let fees = if data.has("fees") {
        data.object("fees").and_then(|own| fees(&own)).map(Some)
    } else {
        Some(None)
    };
    Some(Change::OrganizationCreated {
        organization: organization?,
        name: name?,
        slug: slug?,
        status: status?.unwrap_or_else(|| "active".to_owned()),
        owner: owner?,
        fees: fees?,
    })
}

fn organization_updated(data: &Fields<'_>) -> Option<Change> {
    let organization = data.required("id", organization_id);
    let name = data.optional("name", name);
    let slug = data.optional("slug", text::<SLUG>);
    let status = data.optional("status", text::<WORD>);
    Some(Change::OrganizationUpdated {
        organization: organization?,
        name: name?,
        slug: slug?,
        status: status?,
    })
}

fn member_added(data: &Fields<'_>) -> Option<Change> {
    let organization = data.required("organization_id", organization_id);
    let user = data.object("user").and_then(|user| person(&user));
    let role = data.required("role", role);
    Some(Change::MemberAdded {
        organization: organization?,
        user: user?,
        role: role?,
    })
}

fn member_updated(data: &Fields<'_>) -> Option<Change> {
    let organization = data.required("organization_id", organization_id);
    let user = data.required("user_id", user_id);
    let role = data.required("role", role);
    Some(Change::MemberUpdated {
        organization: organization?,
        user: user?,
        role: role?,
    })
}

fn user_updated(data: &Fields<'_>) -> Option<Change> {
    let user = data.required("id", user_id);
    let email = data.optional("email", email);
    let name = data.optional("name", person_name);
    Some(Change::UserUpdated {
        user: user?,
        email: email?,
        name: name?,
    })
}

fn usage_recorded(data: &Fields<'_>) -> Option<Change> {
    let organization = data.required("organization_id", organization_id);
    let quantity = data.required("quantity", integer::<1, MAX_QUANTITY>);
    let recorded_at = data.optional("recorded_at", time);
    Some(Change::UsageRecorded(UsageReading {
        organization_id: organization?.0,
        quantity: quantity?,
        recorded_at: recorded_at?,
        external_id: None,
    }))
}

fn cost_recorded(data: &Fields<'_>) -> Option<Change> {
    let organization = data.required("organization_id", organization_id);
    let source = data.required("source", text::<SOURCE>);
    let context = data.optional("context", text::<CONTEXT>);
    let vendor = data.optional("vendor", text::<WORD>);
    let model = data.optional("model", text::<WORD>);
    let input_tokens = data.optional("input_tokens", integer::<0, { i64::MAX }>);
    let output_tokens = data.optional("output_tokens", integer::<0, { i64::MAX }>);
    let cost_usd = data.optional("cost_usd", cost);
    let usage_id = data.optional("usage_id", text::<ID>);
    Some(Change::CostRecorded(CostReading {
        organization_id: organization?.0,
        source: source?,
        context: context?,
        vendor: vendor?,
        model: model?,
        input_tokens: input_tokens?,
        output_tokens: output_tokens?,
        cost_usd: cost_usd?,
        usage_id: usage_id?,
        recorded_at: None,
        external_id: None,
    }))
}

fn person(data: &Fields<'_>) -> Option<Person> {
    let id = data.required("id", user_id);
    let email = data.required("email", email);
    let name = data.optional("name", person_name);
    data.refuse_unknown();
    Some(Person {
        id: id?,
        email: email?,
        name: name?,
    })
}

fn fees(data: &Fields<'_>) -> Option<Fees> {
    let basis_points = data.required("basis_points", integer::<0, 10_000>);
    let fixed = data.required("fixed", integer::<0, { i32::MAX as i64 }>);
    let subscription = data.required("subscription_basis_points", integer::<0, 10_000>);
    data.refuse_unknown();
    Some(Fees {
        basis_points: small(basis_points?),
        fixed: small(fixed?),
        subscription_basis_points: small(subscription?),
    })
}

fn small(checked: i64) -> i32 {
    i32::try_from(checked).expect("the range was checked while reading")
}
