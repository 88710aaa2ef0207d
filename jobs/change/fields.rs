//! Reads the fields of an object and collects every fault on the way, so that the sender learns
//! all of them at once. A field that nobody asked for is a fault as well: it is misspelt, and what it
//! says would be lost in silence.

use std::cell::RefCell;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::Fault;
use crate::types::{CostUsd, Email, OrganizationId, Role, UserId};

/// Unknown fields that are reported at most: the answer stays readable whatever was sent.
const MOST_UNKNOWN: usize = 20;
/// A name longer than this resembles none of ours, and is not compared with them.
const LONGEST_COMPARED: usize = 64;

/// The faults found so far.
#[derive(Debug, Default)]
pub(super) struct Faults {
    found: RefCell<Vec<Fault>>,
    unknown: RefCell<Vec<Fault>>,
}

impl Faults {
    pub(super) fn add(&self, pointer: impl Into<String>, message: impl Into<String>) {
        let fault = Fault {
            pointer: pointer.into(),
            message: message.into(),
        };
        self.found.borrow_mut().push(fault);
    }

    /// What was stored is read without them.
    pub(super) fn forget_unknown(&self) {
        self.unknown.borrow_mut().clear();
    }

    /// Those of fields in their order, then the unknown fields by their pointers.
    pub(super) fn into_vec(self) -> Vec<Fault> {
        let (mut faults, mut unknown) = (self.found.into_inner(), self.unknown.into_inner());
        unknown.sort_by(|one, other| one.pointer.cmp(&other.pointer));
        faults.extend(unknown.into_iter().take(MOST_UNKNOWN));
        faults
    }
}

/// An object, and where it stands.
pub(super) struct Fields<'a> {
    object: &'a Map<String, Value>,
    at: String,
    faults: &'a Faults,
    /// The names that were asked for, in that order.
    known: RefCell<Vec<&'static str>>,
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
            known: RefCell::default(),
        })
    }

    fn pointer(&self, field: &str) -> String {
        format!("{}/{}", self.at, escaped(field))
    }

    /// A fault at a field.
    pub(super) fn fault(&self, field: &str, message: impl Into<String>) {
        self.faults.add(self.pointer(field), message);
    }

    fn get(&self, field: &'static str) -> Option<&'a Value> {
        let mut known = self.known.borrow_mut();
        if !known.contains(&field) {
            known.push(field);
        }
        self.object.get(field)
    }

    /// Every field that is there and was not asked for is a fault; called once all were asked for.
    pub(super) fn refuse_unknown(&self) {
        let known = self.known.borrow();
        let unknown = self.object.keys().filter(|name| {
            // Names with the NUL character are a fault of their own.
            !known.contains(&name.as_str()) && !name.contains('\0')
        });
        let faults = unknown.take(MOST_UNKNOWN).map(|name| Fault {
            pointer: self.pointer(name),
            message: match nearest(name, &known) {
                Some(meant) => format!("is unknown: did you mean {meant}?"),
                None => format!("is unknown: known are {}", known.join(", ")),
            },
        });
        self.faults.unknown.borrow_mut().extend(faults);
    }

    /// The value of a field that must be there.
    pub(super) fn value(&self, field: &'static str) -> Option<&'a Value> {
        let value = self.get(field).filter(|value| !value.is_null());
        if value.is_none() {
            self.fault(field, "is missing");
        }
        value
    }

    /// A field that must be there. `None` = a fault was noted.
    pub(super) fn required<T>(&self, field: &'static str, rule: Rule<T>) -> Option<T> {
        self.check(field, rule(self.value(field)?))
    }

    /// A field that may be absent or null. `None` = a fault was noted.
    #[expect(
        clippy::option_option,
        reason = "a fault and an absent field are different things"
    )]
    pub(super) fn optional<T>(&self, field: &'static str, rule: Rule<T>) -> Option<Option<T>> {
        match self.get(field) {
            None | Some(Value::Null) => Some(None),
            Some(value) => self.check(field, rule(value)).map(Some),
        }
    }

    /// The object in a field that must be there.
    pub(super) fn object(&self, field: &'static str) -> Option<Self> {
        Self::of(self.value(field)?, &self.pointer(field), self.faults)
    }

    /// Whether a field is there and not null.
    pub(super) fn has(&self, field: &'static str) -> bool {
        self.get(field).is_some_and(|value| !value.is_null())
    }

    fn check<T>(&self, field: &str, result: Result<T, String>) -> Option<T> {
        result.map_err(|message| self.fault(field, message)).ok()
    }
}

/// A field's name as it stands in a JSON pointer.
pub(super) fn escaped(field: &str) -> String {
    field.replace('~', "~0").replace('/', "~1")
}

/// The known name of which at most half was mistyped; of several the closest, then the first.
fn nearest(name: &str, known: &[&'static str]) -> Option<&'static str> {
    if name.chars().count() > LONGEST_COMPARED {
        return None;
    }
    known
        .iter()
        .map(|known| (strsim::levenshtein(name, known), *known))
        .filter(|(distance, known)| *distance <= known.len() / 2)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
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
