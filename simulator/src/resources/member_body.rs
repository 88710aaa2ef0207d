//! What a member may be made of and changed to, and what Polar says about the rest.

use crate::resources::errors::{Fault, Refusal, at};
use crate::resources::paging::one_of;
use crate::resources::validation;
use crate::resources::validation::{keep, optional};
use crate::world::members::NewMember;
use serde_json::{Map, Value, json};

pub(crate) const ROLES: [&str; 3] = ["owner", "billing_manager", "member"];

pub(crate) fn parse_new(object: &Map<String, Value>) -> Result<(NewMember, &'static str), Refusal> {
    let loc = at(&["body"]);
    let mut faults = Vec::new();
    let email = match object.get("email") {
        Some(value) => keep(
            validation::email(value, at(&["body", "email"])),
            &mut faults,
        ),
        None => {
            let input = Value::Object(object.clone());
            faults.push(Fault::missing(at(&["body", "email"]), input));
            None
        }
    };
    let name = keep(validation::optional_name(object, &loc), &mut faults).flatten();
    let external_id = optional(object, "external_id", &loc, usize::MAX, &mut faults);
    let role = keep(new_role(object.get("role")), &mut faults);
    match (email, role) {
        (Some(email), Some(role)) if faults.is_empty() => Ok((
            NewMember {
                email,
                name,
                external_id,
            },
            role,
        )),
        _ => Err(Refusal::schema(faults)),
    }
}

/// Nobody is made an owner: owners come with the customer, or by promotion.
fn new_role(asked: Option<&Value>) -> Result<&'static str, Fault> {
    let Some(asked) = asked else {
        return Ok("member");
    };
    let allowed = ["member", "billing_manager"]
        .into_iter()
        .find(|role| asked == role);
    allowed.ok_or_else(|| {
        let expected =
            "<MemberRole.member: 'member'> or <MemberRole.billing_manager: 'billing_manager'>";
        let message = format!("Input should be {expected}");
        let fault = Fault::new(
            "literal_error",
            at(&["body", "role"]),
            message,
            asked.clone(),
        );
        fault.context(json!({"expected": expected}))
    })
}

/// What a PATCH changes; `external_id` cannot be changed and is ignored.
#[derive(Debug)]
pub(crate) struct Changes {
    pub(crate) name: Option<Option<String>>,
    pub(crate) email: Option<String>,
    pub(crate) role: Option<&'static str>,
}

impl Changes {
    pub(crate) fn parse(object: &Map<String, Value>) -> Result<Self, Refusal> {
        let mut faults = Vec::new();
        let named = object.contains_key("name");
        let name = keep(
            validation::optional_name(object, &at(&["body"])),
            &mut faults,
        );
        let email = object.get("email").filter(|email| !email.is_null());
        let email = email.and_then(|value| {
            keep(
                validation::email(value, at(&["body", "email"])),
                &mut faults,
            )
        });
        let asked = object.get("role").filter(|role| !role.is_null());
        let role = asked.and_then(|asked| ROLES.into_iter().find(|role| asked == role));
        if let (Some(asked), None) = (asked, role) {
            faults.push(one_of(at(&["body", "role"]), &ROLES, asked.clone()));
        }
        if faults.is_empty() {
            Ok(Self {
                name: name.filter(|_| named),
                email,
                role,
            })
        } else {
            Err(Refusal::schema(faults))
        }
    }
}
