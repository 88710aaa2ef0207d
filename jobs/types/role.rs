//! What a person may do in an organization, in the application's words and in Polar's.

use std::fmt;

/// A role in the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Exactly one per organization.
    Owner,
    /// Manages everything.
    Admin,
    /// Sees the money.
    Finance,
    /// Everybody else.
    Member,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Owner, Self::Admin, Self::Finance, Self::Member];

    /// Reads the application's text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }

    /// The application's text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Finance => "finance",
            Self::Member => "member",
        }
    }

    /// The role at Polar. There the owner is set through the customer or by
    /// promotion, and everybody who manages billing is a billing manager.
    #[must_use]
    pub const fn at_polar(self) -> polar::Role {
        match self {
            Self::Owner => polar::Role::Owner,
            Self::Admin => polar::Role::BillingManager,
            Self::Finance | Self::Member => polar::Role::Member,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
