//! Metadata on customers, products and benefits: flat, and its values keep their kind.
//!
//! On update Polar replaces metadata as a whole (polar-domain (b.6)), so what we read must be
//! written back unchanged: an integer stays an integer, `380.0` stays a float (d).

use std::{
    collections::BTreeMap,
    ops::{Deref, DerefMut},
};

use serde::{Deserialize, Deserializer, Serialize};

/// One metadata value. Polar accepts text of 1..500 characters (polar-domain (a)).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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

/// Metadata by key. `null` in place of the map, or of a value, reads as absent.
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
        let entries = Option::<BTreeMap<String, Option<MetadataValue>>>::deserialize(deserializer)?;
        Ok(Self(
            entries
                .unwrap_or_default()
                .into_iter()
                .filter_map(|(key, value)| value.map(|value| (key, value)))
                .collect(),
        ))
    }
}
