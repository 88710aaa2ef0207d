//! What the application tells us: ten types of changes, parsed once, strictly.
//!
//! One parser serves the ingress, which answers with every fault at once, and the worker, which
//! reads what was stored, also by `record_change`. So names and addresses are normalised in one
//! place, as Polar does it. A fault names the place and the rule, never what stood there.

mod change_type;
mod fields;
mod read;
#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::contract::Fees;
use crate::types::{CostReading, Email, OrganizationId, Person, Role, UsageReading, UserId};

pub use change_type::ChangeType;

/// A change with its envelope.
#[derive(Clone, Debug, PartialEq)]
pub struct ParsedChange {
    /// The application's id of the change; the same id again is a duplicate.
    pub id: Option<String>,
    /// When it happened, as the application says.
    pub occurred_at: Option<DateTime<Utc>>,
    /// What happened.
    pub change: Change,
}

/// One thing wrong with a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where, as a JSON pointer relative to the change: `/data/owner/email`.
    pub pointer: String,
    /// Which rule; never the value, which may be personal.
    pub message: String,
}

/// What happened in the application.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// An organization exists, with its owner.
    OrganizationCreated {
        /// The organization.
        organization: OrganizationId,
        /// Its display name.
        name: String,
        /// Its short name in addresses.
        slug: String,
        /// Its status in the application; `active` unless said otherwise.
        status: String,
        /// Its first owner.
        owner: Person,
        /// Fees of its own; `None` = the platform's.
        fees: Option<Fees>,
    },
    /// Fields of an organization changed; absent ones stay.
    OrganizationUpdated {
        /// The organization.
        organization: OrganizationId,
        /// The new display name.
        name: Option<String>,
        /// The new short name.
        slug: Option<String>,
        /// The new status.
        status: Option<String>,
    },
    /// An organization is gone.
    OrganizationDeleted {
        /// The organization.
        organization: OrganizationId,
    },
    /// A person joined.
    MemberAdded {
        /// The organization.
        organization: OrganizationId,
        /// Who joined.
        user: Person,
        /// What they may do.
        role: Role,
    },
    /// A person has another role.
    MemberUpdated {
        /// The organization.
        organization: OrganizationId,
        /// Who.
        user: UserId,
        /// What they may do from now on.
        role: Role,
    },
    /// A person left.
    MemberRemoved {
        /// The organization.
        organization: OrganizationId,
        /// Who left.
        user: UserId,
    },
    /// A person has another name or address; absent fields stay.
    UserUpdated {
        /// Who.
        user: UserId,
        /// The new address.
        email: Option<Email>,
        /// The new name.
        name: Option<String>,
    },
    /// Another person owns the organization.
    OwnershipTransferred {
        /// The organization.
        organization: OrganizationId,
        /// The new owner.
        user: UserId,
    },
    /// Usage to be counted; without the id and the time of the envelope.
    UsageRecorded(UsageReading),
    /// A cost to be reported; without the id and the time of the envelope.
    CostRecorded(CostReading),
}

/// Reads one change with its envelope. An unknown field is a fault, which names the known one nearest to it.
///
/// # Errors
/// Every fault found, in the order of the fields; pointers are relative to `value`.
pub fn parse(value: &Value) -> Result<ParsedChange, Vec<Fault>> {
    read::envelope(value)
}

/// Reads a change that was stored as its type and its data. Unknown fields are ignored: while releases
/// overlap, a newer one may have stored them.
///
/// # Errors
/// Every fault found; pointers start with `/data`.
pub fn parse_stored(change_type: &str, data: &Value) -> Result<Change, Vec<Fault>> {
    read::stored(change_type, data)
}

impl Change {
    /// What kind of change it is.
    #[must_use]
    pub const fn change_type(&self) -> ChangeType {
        match self {
            Self::OrganizationCreated { .. } => ChangeType::OrganizationCreated,
            Self::OrganizationUpdated { .. } => ChangeType::OrganizationUpdated,
            Self::OrganizationDeleted { .. } => ChangeType::OrganizationDeleted,
            Self::MemberAdded { .. } => ChangeType::MemberAdded,
            Self::MemberUpdated { .. } => ChangeType::MemberUpdated,
            Self::MemberRemoved { .. } => ChangeType::MemberRemoved,
            Self::UserUpdated { .. } => ChangeType::UserUpdated,
            Self::OwnershipTransferred { .. } => ChangeType::OwnershipTransferred,
            Self::UsageRecorded(_) => ChangeType::UsageRecorded,
            Self::CostRecorded(_) => ChangeType::CostRecorded,
        }
    }

    /// Changes of one key are applied in the order they came: the organization, or for
    /// `user.updated` the user. Readings are counted, not applied: `None`.
    #[must_use]
    pub fn ordering_key(&self) -> Option<String> {
        match self {
            Self::OrganizationCreated { organization, .. }
            | Self::OrganizationUpdated { organization, .. }
            | Self::OrganizationDeleted { organization }
            | Self::MemberAdded { organization, .. }
            | Self::MemberUpdated { organization, .. }
            | Self::MemberRemoved { organization, .. }
            | Self::OwnershipTransferred { organization, .. } => {
                Some(organization_key(*organization))
            }
            Self::UserUpdated { user, .. } => Some(format!("user/{user}")),
            Self::UsageRecorded(_) | Self::CostRecorded(_) => None,
        }
    }
}

/// The ordering key of an organization's changes.
pub(crate) fn organization_key(organization: OrganizationId) -> String {
    format!("organization/{organization}")
}
