//! Ids in paths. What is no id names nothing, and is answered like an unknown one.

use uuid::Uuid;

/// Reads the hyphenated form in either case.
pub(super) fn parse<T: From<Uuid>>(text: &str) -> Option<T> {
    (text.len() == uuid::fmt::Hyphenated::LENGTH)
        .then(|| Uuid::try_parse(text).ok())
        .flatten()
        .map(T::from)
}
