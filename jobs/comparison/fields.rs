//! The fields in which two sides differ.

use serde_json::{Map, Value};

/// Of two objects the fields that differ; `None` where none does.
pub(super) fn differing(wanted: Value, found: Value) -> Option<(Value, Value)> {
    let (Value::Object(wanted), Value::Object(found)) = (wanted, found) else {
        return None;
    };
    let differs = |name: &String| wanted.get(name) != found.get(name);
    let names: Vec<&String> = wanted.keys().filter(|name| differs(name)).collect();
    if names.is_empty() {
        return None;
    }
    let only = |side: &Map<String, Value>| {
        let fields = names
            .iter()
            .map(|&name| (name.clone(), side.get(name).cloned().unwrap_or_default()));
        Value::Object(fields.collect())
    };
    Some((only(&wanted), only(&found)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_differs_is_told() {
        let found = differing(
            json!({"name": "A", "slug": "a"}),
            json!({"name": "B", "slug": "a"}),
        );
        assert_eq!(found, Some((json!({"name": "A"}), json!({"name": "B"}))));
        assert_eq!(
            differing(json!({"name": "A"}), json!({"name": "A", "more": 1})),
            None
        );
    }
}
