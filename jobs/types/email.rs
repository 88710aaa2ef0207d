//! People and their addresses.

use std::fmt;

use unicode_normalization::UnicodeNormalization;

use super::UserId;

/// An address with the form of one: something, an `@`, something; no blanks; at most 254 bytes as
/// it was given. Whether mail arrives is for Polar to find out.
///
/// Held as Polar normalises it: the domain decoded, composed and in lower case, the local part
/// composed and in its own case. In any other form it would never equal what Polar answers, and
/// every sync would write it again.
#[derive(Clone, PartialEq, Eq)]
pub struct Email(String);

impl Email {
    /// The longest address that mail can carry, in bytes (RFC 5321).
    pub const MAX: usize = 254;

    /// Reads an address as it was given.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (local, domain) = text.rsplit_once('@')?;
        let formed = !local.is_empty() && !domain.is_empty() && !local.contains('@');
        let plain = !text.chars().any(|c| c.is_whitespace() || c.is_control());
        (formed && plain && text.len() <= Self::MAX).then(|| Self(normalised(local, domain)))
    }

    /// An address that was parsed before and kept in the mirror.
    #[must_use]
    pub(crate) fn from_mirror(text: String) -> Self {
        Self(text)
    }

    /// The same mailbox under another address, as most mail servers have it: what follows a `+` is
    /// not looked at. `None` where the local part is too long for it.
    #[must_use]
    pub(crate) fn stand_in(&self, user: UserId) -> Option<String> {
        const LONGEST_LOCAL_PART: usize = 64;
        let (local, domain) = self.0.rsplit_once('@')?;
        let short = user.0.as_fields().0;
        let local = format!("{local}+{short:08x}");
        (local.len() <= LONGEST_LOCAL_PART).then(|| format!("{local}@{domain}"))
    }

    /// Whether this can only be an address that [`stand_in`](Self::stand_in) made for the user.
    #[must_use]
    pub(crate) fn is_stand_in(address: &str, user: UserId) -> bool {
        let tag = format!("+{:08x}", user.0.as_fields().0);
        let local = address.rsplit_once('@').map(|(local, _)| local);
        local.is_some_and(|local| local.to_lowercase().ends_with(&tag))
    }

    /// The address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before `@`: what a person is called who gave no name.
    #[must_use]
    pub fn local_part(&self) -> &str {
        self.0
            .rsplit_once('@')
            .map_or(self.0.as_str(), |(local, _)| local)
    }

    /// Whether both are the same mailbox as far as Polar is concerned, which ignores case.
    #[must_use]
    pub fn is_same_as(&self, other: &str) -> bool {
        self.0.to_lowercase() == other.to_lowercase()
    }
}

fn normalised(local: &str, domain: &str) -> String {
    let local: String = local.nfc().collect();
    // What cannot be decoded is no domain that Polar takes; it says so when it is asked.
    let domain = match idna::domain_to_unicode(domain) {
        (domain, Ok(())) => domain,
        _ => domain.nfc().collect::<String>().to_lowercase(),
    };
    format!("{local}@{domain}")
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
    /// What they are called; `None` = nothing was said; blank = the part of the address before `@`.
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn addresses_are_held_as_polar_normalises_them() {
        for (given, held) in [
            ("user@xn--exmple-cua.com", "user@exämple.com"),
            ("User@EXAMPLE.com", "User@example.com"),
            ("user@EXÄMPLE.com", "user@exämple.com"),
            ("use\u{308}r@exa\u{308}mple.com", "usër@exämple.com"),
            ("user@xn--\u{7f}", ""),
            ("user@xn--a", "user@xn--a"),
            ("user@[127.0.0.1]", "user@[127.0.0.1]"),
            ("a@b", "a@b"),
        ] {
            let email = Email::parse(given);
            assert_eq!(email.as_ref().map_or("", Email::as_str), held, "{given}");
            if let Some(email) = email {
                assert_eq!(
                    Email::parse(email.as_str()).unwrap(),
                    email,
                    "twice is once"
                );
            }
        }
    }
}
