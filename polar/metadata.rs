//! Metadata on customers, products and benefits: flat, and its values keep their kind.
//!
//! On update Polar replaces metadata as a whole, so what we read must be written back unchanged: an
//! integer stays an integer, `380.0` stays a float. What Polar does not promise (a list, an object,
//! a number beyond 64 bits) is kept as it came: one odd value must not make an answer unreadable.

use std::{
    collections::BTreeMap,
    ops::{Deref, DerefMut},
};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// One metadata value. Polar accepts text of 1 to 500 characters.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum MetadataValue {
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number, also a whole one written with a point.
    Float(f64),
    /// Text.
    Text(String),
    /// Anything else, as it came.
    Other(Value),
}

impl MetadataValue {
    /// The value if it is text.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl From<Value> for MetadataValue {
    fn from(value: Value) -> Self {
        match value {
            Value::Bool(flag) => Self::Boolean(flag),
            Value::String(text) => Self::Text(text),
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(whole), _) => Self::Integer(whole),
                (None, Some(float)) if number.is_f64() => Self::Float(float),
                _ => Self::Other(Value::Number(number)),
            },
            other => Self::Other(other),
        }
    }
}

impl<'de> Deserialize<'de> for MetadataValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self::from)
    }
}

impl From<&str> for MetadataValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for MetadataValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for MetadataValue {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<bool> for MetadataValue {
    fn from(flag: bool) -> Self {
        Self::Boolean(flag)
    }
}

/// Metadata by key. `null` in place of a value reads as absent, and anything but an object in place
/// of the map as empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Metadata(pub BTreeMap<String, MetadataValue>);

impl Metadata {
    /// The text under `key`; `None` when absent or of another kind.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(MetadataValue::as_text)
    }
}

impl Deref for Metadata {
    type Target = BTreeMap<String, MetadataValue>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Metadata {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl<K: Into<String>, V: Into<MetadataValue>> FromIterator<(K, V)> for Metadata {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        Self(
            entries
                .into_iter()
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
        )
    }
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Value::Object(entries) = Value::deserialize(deserializer)? else {
            return Ok(Self::default());
        };
        let present = entries.into_iter().filter(|(_, value)| !value.is_null());
        Ok(present.collect())
    }
}
