//! Reads the fields of an object and collects every fault on the way, so that the sender learns
//! all of them at once.

use std::cell::RefCell;

use crate::mirror::costs::CostUsd;
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::Fault;
use crate::types::{Email, OrganizationId, Role, UserId};

/// The faults found so far.
#[derive(Debug, Default)]
pub(super) struct Faults(RefCell<Vec<Fault>>);

impl Faults {
    pub(super) fn add(&self, pointer: impl Into<String>, message: impl Into<String>) {
        let fault = Fault {
            pointer: pointer.into(),
            message: message.into(),
        };
        self.0.borrow_mut().push(fault);
    }

    pub(super) fn into_vec(self) -> Vec<Fault> {
        self.0.into_inner()
    }
}

/// An object, and where it stands.
pub(super) struct Fields<'a> {
    object: &'a Map<String, Value>,
    at: String,
    faults: &'a Faults,
}

/// How one value is read: the value, or the rule that it breaks.
pub(super) type Rule<T> = fn(&Value) -> Result<T, String>;

impl<'a> Fields<'a> {
    /// The object at `at`; anything else is a fault.
    pub(super) fn of(value: &'a Value, at: &str, faults: &'a Faults) -> Option<Self> {
        let Some(object) = value.as_object() else {
            faults.add(at, "must be an object");
            return None;
        };
        Some(Self {
            object,
            at: at.to_owned(),
            faults,
        })
    }

    fn pointer(&self, field: &str) -> String {
        format!("{}/{field}", self.at)
    }

    /// A fault at a field.
    pub(super) fn fault(&self, field: &str, message: impl Into<String>) {
        self.faults.add(self.pointer(field), message);
    }

    /// The value of a field that must be there.
    pub(super) fn value(&self, field: &str) -> Option<&'a Value> {
        let value = self.object.get(field).filter(|value| !value.is_null());
        if value.is_none() {
            self.fault(field, "is missing");
        }
        value
    }

    /// A field that must be there. `None` = a fault was noted.
    pub(super) fn required<T>(&self, field: &str, rule: Rule<T>) -> Option<T> {
        self.check(field, rule(self.value(field)?))
    }

    /// A field that may be absent or null. `None` = a fault was noted.
    #[expect(
        clippy::option_option,
        reason = "a fault and an absent field are different things"
    )]
    pub(super) fn optional<T>(&self, field: &str, rule: Rule<T>) -> Option<Option<T>> {
        match self.object.get(field) {
            None | Some(Value::Null) => Some(None),
            Some(value) => self.check(field, rule(value)).map(Some),
        }
    }

    /// The object in a field that must be there.
    pub(super) fn object(&self, field: &str) -> Option<Self> {
        Self::of(self.value(field)?, &self.pointer(field), self.faults)
    }

    /// Whether a field is there and not null.
    pub(super) fn has(&self, field: &str) -> bool {
        self.object.get(field).is_some_and(|value| !value.is_null())
    }

    fn check<T>(&self, field: &str, result: Result<T, String>) -> Option<T> {
        result.map_err(|message| self.fault(field, message)).ok()
    }
}

/// Text that is not blank, of at most `MAX` characters.
pub(super) fn text<const MAX: usize>(value: &Value) -> Result<String, String> {
    let text = value.as_str().ok_or("must be text")?;
    if text.trim().is_empty() {
        return Err("must not be empty".to_owned());
    }
    if text.chars().count() > MAX {
        return Err(format!("must have at most {MAX} characters"));
    }
    Ok(text.to_owned())
}

/// What an organization is called, without the blanks around it, which Polar strips.
pub(super) fn name(value: &Value) -> Result<String, String> {
    let name = person_name(value)?;
    if name.is_empty() {
        return Err("must not be empty".to_owned());
    }
    Ok(name)
}

/// What a person is called, without the blanks around it; may be blank.
pub(super) fn person_name(value: &Value) -> Result<String, String> {
    /// Polar's limit for names, of what is left after stripping.
    const MAX: usize = 256;
    let name = value.as_str().ok_or("must be text")?.trim();
    if name.chars().count() > MAX {
        return Err(format!("must have at most {MAX} characters"));
    }
    Ok(name.to_owned())
}

/// The hyphenated form of an organization's UUID.
pub(super) fn organization_id(value: &Value) -> Result<OrganizationId, String> {
    value
        .as_str()
        .and_then(OrganizationId::parse)
        .ok_or_else(|| "must be a UUID".to_owned())
}

/// The hyphenated form of a user's UUID.
pub(super) fn user_id(value: &Value) -> Result<UserId, String> {
    value
        .as_str()
        .and_then(UserId::parse)
        .ok_or_else(|| "must be a UUID".to_owned())
}

/// One of the four roles.
pub(super) fn role(value: &Value) -> Result<Role, String> {
    let known = || format!("must be one of {}", Role::ALL.map(Role::as_str).join(", "));
    value.as_str().and_then(Role::parse).ok_or_else(known)
}

/// Something with the form of an address.
pub(super) fn email(value: &Value) -> Result<Email, String> {
    let rule = || format!("must be an email address of at most {} bytes", Email::MAX);
    value.as_str().and_then(Email::parse).ok_or_else(rule)
}

/// RFC 3339 with its offset.
pub(super) fn time(value: &Value) -> Result<DateTime<Utc>, String> {
    value
        .as_str()
        .and_then(|text| DateTime::parse_from_rfc3339(text).ok())
        .map(|time| time.with_timezone(&Utc))
        .ok_or_else(|| "must be an RFC 3339 time".to_owned())
}

/// A whole number from `MIN` to `MAX`.
pub(super) fn integer<const MIN: i64, const MAX: i64>(value: &Value) -> Result<i64, String> {
    let within = value.as_i64().filter(|number| (MIN..=MAX).contains(number));
    within.ok_or_else(|| match MAX {
        i64::MAX => format!("must be an integer of at least {MIN}"),
        _ => format!("must be an integer from {MIN} to {MAX}"),
    })
}

/// A cost: decimal text, zero or more, without sign or exponent.
pub(super) fn cost(value: &Value) -> Result<CostUsd, String> {
    let text = value
        .as_str()
        .ok_or("must be decimal text, such as \"0.0123\"")?;
    CostUsd::parse(text).map_err(|error| error.to_string())
}
