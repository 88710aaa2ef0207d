//! Polar's schema refuses with exact names and places; the client's handling of a 422 is tried against them.

use serde_json::{Map, Value, json};
use unicode_normalization::UnicodeNormalization;

use crate::resources::errors::Fault;

/// The longest name.
const NAME_LENGTH: usize = 256;

/// Appends to a location.
pub(crate) fn join(loc: &[Value], rest: &[&str]) -> Vec<Value> {
    let mut whole = loc.to_vec();
    whole.extend(rest.iter().map(|part| Value::from(*part)));
    whole
}

/// A text field of at most `longest` characters.
pub(crate) fn text(value: &Value, loc: Vec<Value>, longest: usize) -> Result<String, Fault> {
    let Some(text) = value.as_str() else {
        return Err(Fault::new(
            "string_type",
            loc,
            "Input should be a valid string",
            value.clone(),
        ));
    };
    if text.chars().count() > longest {
        let message = format!("String should have at most {longest} characters");
        let fault = Fault::new("string_too_long", loc, message, value.clone());
        return Err(fault.context(json!({"max_length": longest})));
    }
    Ok(text.to_owned())
}

/// An optional text field; null counts as absent, and so does empty text (measured on member names).
pub(crate) fn optional_text(
    object: &Map<String, Value>,
    key: &str,
    loc: &[Value],
    longest: usize,
) -> Result<Option<String>, Fault> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => text(value, join(loc, &[key]), longest)
            .map(|text| Some(text).filter(|text| !text.is_empty())),
    }
}

/// An optional name of a person or company: without blanks at its ends, null when nothing is left.
pub(crate) fn optional_name(
    object: &Map<String, Value>,
    loc: &[Value],
) -> Result<Option<String>, Fault> {
    let trimmed = match object.get("name").and_then(Value::as_str) {
        Some(name) => Map::from_iter([("name".to_owned(), name.trim().into())]),
        None => return optional_text(object, "name", loc, NAME_LENGTH),
    };
    optional_text(&trimmed, "name", loc, NAME_LENGTH)
}

/// An e-mail address, as it is kept: normalised. The domain `undeliverable.test` and everything under `undeliverable.example` has no mail service.
pub(crate) fn email(value: &Value, loc: Vec<Value>) -> Result<String, Fault> {
    let Some(address) = value.as_str() else {
        return Err(Fault::new(
            "string_type",
            loc,
            "Input should be a valid string",
            value.clone(),
        ));
    };
    let malformed = |reason: &str| {
        let message = format!("value is not a valid email address: {reason}");
        Fault::new("value_error", loc.clone(), message, value.clone())
            .context(json!({"reason": reason}))
    };
    let Some((local, domain)) = address.rsplit_once('@') else {
        return Err(malformed("An email address must have an @-sign."));
    };
    if local.is_empty() {
        return Err(malformed("There must be something before the @-sign."));
    }
    if !domain.contains('.')
        || domain.starts_with('.')
        || domain.ends_with('.')
        || address.contains(' ')
    {
        return Err(malformed(
            "The part after the @-sign is not valid. It should have a period.",
        ));
    }
    if undeliverable(domain) {
        let reason = format!("The domain name {domain} does not exist.");
        let message = format!("{address} is not a valid email address: {reason}");
        let context = json!({"email": address, "reason": reason});
        return Err(Fault::new("value_error", loc, message, value.clone()).context(context));
    }
    let domain = idna::domain_to_unicode(domain).0;
    let local: String = local.nfc().collect();
    Ok(format!("{local}@{domain}"))
}

fn undeliverable(domain: &str) -> bool {
    let domain = domain.to_lowercase();
    domain == "undeliverable.test"
        || domain == "undeliverable.example"
        || domain.ends_with(".undeliverable.example")
}

/// Metadata of customers, benefits and the like: at most 50 keys of 40 characters, values text 1..500, number, boolean.
pub(crate) fn metadata(
    value: &Value,
    loc: &[Value],
    faults: &mut Vec<Fault>,
) -> Map<String, Value> {
    let Some(object) = value.as_object() else {
        faults.push(Fault::new(
            "dict_type",
            loc.to_vec(),
            "Input should be a valid dictionary",
            value.clone(),
        ));
        return Map::new();
    };
    if object.len() > 50 {
        let message = format!(
            "Dictionary should have at most 50 items after validation, not {}",
            object.len()
        );
        let context =
            json!({"field_type": "Dictionary", "max_length": 50, "actual_length": object.len()});
        faults.push(Fault::new("too_long", loc.to_vec(), message, value.clone()).context(context));
        return Map::new();
    }
    for (key, value) in object {
        if key.chars().count() > 40 {
            let message = "String should have at most 40 characters";
            let fault = Fault::new(
                "string_too_long",
                join(loc, &[key, "[key]"]),
                message,
                key.clone().into(),
            );
            faults.push(fault.context(json!({"max_length": 40})));
        }
        faults.extend(metadata_value(value, &join(loc, &[key])));
    }
    object.clone()
}

/// One metadata value: a fault per kind it could have been, as recorded.
pub(crate) fn metadata_value(value: &Value, loc: &[Value]) -> Vec<Fault> {
    let fault = |kind, tag: &str, message: &str| {
        Fault::new(kind, join(loc, &[tag]), message, value.clone())
    };
    match value {
        Value::Number(_) | Value::Bool(_) => Vec::new(),
        Value::String(text) if (1..=500).contains(&text.chars().count()) => Vec::new(),
        Value::String(text) => text_value_faults(text, fault),
        Value::Null | Value::Array(_) | Value::Object(_) => vec![
            fault(
                "string_type",
                "constrained-str",
                "Input should be a valid string",
            ),
            fault("int_type", "int", "Input should be a valid integer"),
            fault("float_type", "float", "Input should be a valid number"),
            fault("bool_type", "bool", "Input should be a valid boolean"),
        ],
    }
}

/// Text that is empty or too long is no number and no boolean either.
fn text_value_faults(text: &str, fault: impl Fn(&'static str, &str, &str) -> Fault) -> Vec<Fault> {
    let tag = "constrained-str";
    let first = if text.is_empty() {
        let message = "String should have at least 1 character";
        fault("string_too_short", tag, message).context(json!({"min_length": 1}))
    } else {
        let message = "String should have at most 500 characters";
        fault("string_too_long", tag, message).context(json!({"max_length": 500}))
    };
    let int = "Input should be a valid integer, unable to parse string as an integer";
    let float = "Input should be a valid number, unable to parse string as a number";
    let boolean = "Input should be a valid boolean, unable to interpret input";
    vec![
        first,
        fault("int_parsing", "int", int),
        fault("float_parsing", "float", float),
        fault("bool_parsing", "bool", boolean),
    ]
}

/// Keeps a parsed value or notes its fault.
pub(crate) fn keep<T>(parsed: Result<T, Fault>, faults: &mut Vec<Fault>) -> Option<T> {
    parsed.map_err(|fault| faults.push(fault)).ok()
}

/// An optional text field; a fault is noted and counts as absent.
pub(crate) fn optional(
    object: &Map<String, Value>,
    key: &str,
    loc: &[Value],
    longest: usize,
    faults: &mut Vec<Fault>,
) -> Option<String> {
    keep(optional_text(object, key, loc, longest), faults).flatten()
}
