//! Which customer a job is about, read from its payload without knowing its kind.

use serde::Deserialize;
use serde_json::Value;

/// The ids by which payloads name a customer, the most telling first.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Ids {
    organization_id: Value,
    external_customer_id: Value,
    customer_id: Value,
}

/// The id of the customer that a job with this payload is about; `None` where it names none, or
/// cannot be read.
#[must_use]
pub fn subject_of(payload: &str) -> Option<String> {
    serde_json::from_str::<Ids>(payload).ok()?.first()
}

/// The same of a payload that is parsed already.
pub(super) fn subject_of_value(payload: &Value) -> Option<String> {
    Ids::deserialize(payload).ok()?.first()
}

impl Ids {
    fn first(&self) -> Option<String> {
        [
            &self.organization_id,
            &self.external_customer_id,
            &self.customer_id,
        ]
        .into_iter()
        .find_map(Value::as_str)
        .map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

    use super::*;

    #[test]
    fn the_customer_of_a_payload_is_found_and_anything_else_is_nobody() {
        for (payload, subject) in [
            (r#"{"organization_id": "o", "user_id": "u"}"#, Some("o")),
            (
                r#"{"customer_id": "c", "external_customer_id": null}"#,
                Some("c"),
            ),
            (
                r#"{"customer_id": "c", "external_customer_id": "o"}"#,
                Some("o"),
            ),
            (r#"{"organization_id": 7, "more": {"a": []}}"#, None),
            ("{}", None),
            ("[1]", None),
        ] {
            assert_eq!(subject_of(payload).as_deref(), subject, "{payload}");
        }
    }
}
