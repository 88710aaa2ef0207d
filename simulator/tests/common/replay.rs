//! Recorded exchanges and ours are the same up to ids and moments; this says whether they are.

use std::collections::HashMap;
use std::path::PathBuf;

use serde_json::Value;
use uuid::Uuid;

/// Null in the recording and set here, or the other way round: the run made these rows in the database, we make them
/// through checkouts.
const NULLABLE: [&str; 7] = [
    "modified_at",
    "checkout_id",
    "default_payment_method_id",
    "billing_address",
    "paused_at",
    "past_due_at",
    "pending_update",
];
/// Empty in the recording, filled here: the run's paid subscriptions were made without their grants.
const MAY_BE_FILLED: [&str; 1] = ["granted_benefits"];

pub fn recording(name: &str) -> Value {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/recordings/{name}.json"));
    serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap()
}

/// Recorded ids and ours.
#[derive(Default)]
pub struct Ids(HashMap<String, String>);

impl Ids {
    pub fn insert(&mut self, recorded: &str, ours: impl ToString) {
        self.0.insert(recorded.to_owned(), ours.to_string());
    }

    /// What a recorded id stands for here.
    pub fn known(&self, recorded: &str) -> Option<&str> {
        self.0.get(recorded).map(String::as_str)
    }

    pub fn ours(&self, text: &str) -> String {
        let replace =
            |text: String, (recorded, ours): (&String, &String)| text.replace(recorded, ours);
        self.0.iter().fold(text.to_owned(), replace)
    }

    /// Learns from two answers to one question.
    pub fn learn(&mut self, recorded: &Value, ours: &Value) {
        match (recorded, ours) {
            (Value::Object(recorded), Value::Object(ours)) => {
                for (key, value) in recorded {
                    self.learn(value, ours.get(key).unwrap_or(&Value::Null));
                }
            }
            (Value::Array(recorded), Value::Array(ours)) if recorded.len() == ours.len() => {
                for (recorded, ours) in recorded.iter().zip(ours) {
                    self.learn(recorded, ours);
                }
            }
            (Value::String(recorded), Value::String(ours))
                if Uuid::parse_str(recorded).is_ok() && Uuid::parse_str(ours).is_ok() =>
            {
                self.insert(recorded, ours);
            }
            _ => {}
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}

/// Every difference in keys and kinds.
pub fn shape_differences(recorded: &Value, ours: &Value, at: &str) -> Vec<String> {
    let last = at.rsplit('/').next().unwrap();
    let one_null = recorded.is_null() != ours.is_null();
    if one_null && NULLABLE.contains(&last) {
        return Vec::new();
    }
    match (recorded, ours) {
        (Value::Object(recorded), Value::Object(ours))
            if last == "metadata" || last == "prices" =>
        {
            let _free_form = (recorded, ours);
            Vec::new()
        }
        (Value::Object(recorded), Value::Object(ours)) => {
            let missing = recorded
                .keys()
                .filter(|key| !ours.contains_key(*key))
                .map(|key| format!("{at}: lacks {key}"));
            let extra = ours
                .keys()
                .filter(|key| !recorded.contains_key(*key))
                .map(|key| format!("{at}: has {key}"));
            let inner = recorded
                .iter()
                .filter_map(|(key, value)| Some((key, value, ours.get(key)?)));
            let inner = inner.flat_map(|(key, value, ours)| {
                shape_differences(value, ours, &format!("{at}/{key}"))
            });
            missing.chain(extra).chain(inner).collect()
        }
        (Value::Array(recorded), Value::Array(ours)) => list_differences(recorded, ours, at, last),
        _ if kind(recorded) == kind(ours) => Vec::new(),
        _ => vec![format!(
            "{at}: recorded {}, ours {}",
            kind(recorded),
            kind(ours)
        )],
    }
}

fn list_differences(recorded: &[Value], ours: &[Value], at: &str, last: &str) -> Vec<String> {
    if recorded.is_empty() && MAY_BE_FILLED.contains(&last) {
        return Vec::new();
    }
    if recorded.is_empty() != ours.is_empty() {
        return vec![format!(
            "{at}: recorded {} items, ours {}",
            recorded.len(),
            ours.len()
        )];
    }
    let best = |item: &Value| {
        let all = recorded
            .iter()
            .map(|recorded| shape_differences(recorded, item, &format!("{at}/*")));
        all.min_by_key(Vec::len).unwrap_or_default()
    };
    ours.iter().flat_map(best).collect()
}

/// Type, place and message of every entry of a 422, in any order.
pub fn faults(body: &Value, ids: &Ids) -> Vec<String> {
    let entries = body["detail"].as_array().into_iter().flatten();
    let one = |entry: &Value| format!("{} at {}: {}", entry["type"], entry["loc"], entry["msg"]);
    let mut faults: Vec<String> = entries.map(one).map(|text| ids.ours(&text)).collect();
    faults.sort();
    faults
}
