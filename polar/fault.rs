//! A 422 from Polar: which fields were refused, and why.
//!
//! Schema checks put a union tag into the path, service checks do not, so a field is recognised by
//! the error's name and the last element of the path. What was sent (`input`, `ctx`) is
//! dropped while reading, because it holds people's names and addresses.

use std::{collections::BTreeSet, fmt};

use serde::Deserialize;

use crate::Operation;

/// A refused request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// What was asked.
    pub operation: Operation,
    /// Polar's name of the error, such as `RequestValidationError`; empty when there was none.
    pub error: String,
    /// The text of a 422 that has text instead of a list, such as `MissingInvoiceBillingDetails`.
    pub detail: Option<String>,
    /// One entry per fault; several for one mistake where the body is a union.
    pub faults: Vec<FieldFault>,
}

/// One refused field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldFault {
    /// The kind of fault, such as `value_error` or `missing`.
    pub kind: String,
    /// The path to the field, starting with `body` or `query`.
    pub loc: Vec<LocPart>,
    /// Polar's words, with addresses masked.
    pub message: String,
}

/// One step of the path to a field.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum LocPart {
    /// A position in a list.
    Index(usize),
    /// A field, or the tag of a union.
    Name(String),
}

impl FieldFault {
    /// Whether the path ends with this field.
    #[must_use]
    pub fn is_at(&self, field: &str) -> bool {
        matches!(self.loc.last(), Some(LocPart::Name(name)) if name == field)
    }

    /// Which event of an ingest request this fault is about.
    pub(crate) fn event_index(&self) -> Option<usize> {
        match self.loc.as_slice() {
            [
                LocPart::Name(_),
                LocPart::Name(events),
                LocPart::Index(index),
                ..,
            ] if events == "events" => Some(*index),
            _ => None,
        }
    }
}

impl fmt::Display for FieldFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.loc {
            match part {
                LocPart::Index(index) => write!(f, "/{index}")?,
                LocPart::Name(name) => write!(f, "/{name}")?,
            }
        }
        write!(f, ": {}", self.message)
    }
}

impl Invalid {
    /// The faults whose path ends with one of these fields.
    pub fn faults_at<'a>(&'a self, fields: &'a [&str]) -> impl Iterator<Item = &'a FieldFault> {
        self.faults
            .iter()
            .filter(|fault| fields.iter().any(|field| fault.is_at(field)))
    }

    /// The customer's external id exists already, and nothing else was wrong: another run created
    /// it between our look and our create.
    #[must_use]
    pub fn is_duplicate_external_id(&self) -> bool {
        !self.faults.is_empty()
            && self
                .faults
                .iter()
                .all(|fault| fault.is_at("external_id") && self.is_clash(fault))
    }

    /// An email is in use by another customer, or by another member of the customer.
    #[must_use]
    pub fn is_duplicate_email(&self) -> bool {
        self.faults_at(&["email"]).any(|fault| self.is_clash(fault))
    }

    /// An address that Polar will never take: malformed, or its domain has no mail service.
    #[must_use]
    pub fn is_undeliverable_email(&self) -> bool {
        self.error != SERVICE
            && self.faults_at(&["email"]).any(|fault| {
                fault.kind == "value_error" && !fault.message.contains("already exists")
            })
    }

    /// The only owner cannot be demoted or removed.
    #[must_use]
    pub fn is_sole_owner(&self) -> bool {
        self.error != SCHEMA
            && self.faults_at(&["role", "body"]).any(|fault| {
                fault.message.contains("only owner") || fault.message.contains("exactly one owner")
            })
    }

    /// The positions of the events that Polar refused, ascending. The others are good.
    #[must_use]
    pub fn refused_indexes(&self) -> Vec<usize> {
        let indexes: BTreeSet<usize> = self
            .faults
            .iter()
            .filter_map(FieldFault::event_index)
            .collect();
        indexes.into_iter().collect()
    }

    /// What was wrong with one event. Each mistake is reported once per variant of the union; the
    /// variant that we did not mean is left out where the other says something.
    #[must_use]
    pub fn faults_of_event(&self, index: usize) -> Vec<&FieldFault> {
        let all: Vec<_> = self
            .faults
            .iter()
            .filter(|fault| fault.event_index() == Some(index))
            .collect();
        let foreign = LocPart::Name("EventCreateCustomer".to_owned());
        let ours: Vec<_> = all
            .iter()
            .copied()
            .filter(|fault| !fault.loc.contains(&foreign))
            .collect();
        if ours.is_empty() { all } else { ours }
    }

    /// Service checks speak of what exists; a body without a name is judged by its words.
    fn is_clash(&self, fault: &FieldFault) -> bool {
        self.error != SCHEMA && (self.error == SERVICE || fault.message.contains("already exists"))
    }
}

/// The name of refusals by the schema alone.
const SCHEMA: &str = "RequestValidationError";
/// The name of refusals that needed a look at what exists.
const SERVICE: &str = "PolarRequestValidationError";

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: Polar refused the request", self.operation)?;
        if !self.error.is_empty() {
            write!(f, " ({})", self.error)?;
        }
        if let Some(detail) = &self.detail {
            write!(f, ": {detail}")?;
        }
        for (position, fault) in self.faults.iter().take(SHOWN_FAULTS).enumerate() {
            f.write_str(if position == 0 { ": " } else { "; " })?;
            fault.fmt(f)?;
        }
        match self.faults.len().saturating_sub(SHOWN_FAULTS) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

/// A refused batch can hold thousands of faults; a message needs a few.
const SHOWN_FAULTS: usize = 5;
