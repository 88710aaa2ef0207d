//! The application's ids. One type each, so that a user's id cannot be used as an organization's.
//!
//! Written lower-case and hyphenated, because Polar compares external ids byte by byte.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! application_ids {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Reads the hyphenated form, in either case; any other form is `None`.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                (text.len() == uuid::fmt::Hyphenated::LENGTH).then(|| Uuid::try_parse(text).ok()).flatten().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }
    )+};
}

application_ids! {
    /// An organization of the application; at Polar the external id of a customer.
    OrganizationId;
    /// A user of the application; at Polar the external id of a member.
    UserId;
}
