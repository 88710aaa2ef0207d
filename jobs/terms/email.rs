//! People and their addresses.

use std::fmt;

use super::UserId;

/// An address with the form of one: something, an `@`, something; no blanks; at most 254 bytes.
/// Whether mail arrives is for Polar to find out (R1).
#[derive(Clone, PartialEq, Eq)]
pub struct Email(String);

impl Email {
    /// The longest address that mail can carry, in bytes (RFC 5321).
    pub const MAX: usize = 254;

    /// Reads an address.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (local, domain) = text.rsplit_once('@')?;
        let formed = !local.is_empty() && !domain.is_empty() && !local.contains('@');
        let plain = !text.chars().any(|c| c.is_whitespace() || c.is_control());
        (formed && plain && text.len() <= Self::MAX).then(|| Self(text.to_owned()))
    }

    /// The address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before `@`: what a person is called who gave no name (contract 8).
    #[must_use]
    pub fn local_part(&self) -> &str {
        self.0
            .rsplit_once('@')
            .map_or(self.0.as_str(), |(local, _)| local)
    }

    /// Whether both are the same mailbox as far as Polar is concerned, which ignores case
    /// (polar-domain (b.3)).
    #[must_use]
    pub fn is_same_as(&self, other: &str) -> bool {
        self.0.to_lowercase() == other.to_lowercase()
    }
}

/// Addresses are personal: they do not appear in debug output.
impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Email(..)")
    }
}

/// A person as a change introduces them.
#[derive(Clone, PartialEq, Eq)]
pub struct Person {
    /// The user.
    pub id: UserId,
    /// Where mail reaches them.
    pub email: Email,
    /// What they are called; `None` = the part of the address before `@`.
    pub name: Option<String>,
}

/// Names are personal: they do not appear in debug output.
impl fmt::Debug for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Person")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
