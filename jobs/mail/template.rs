//! The mails that there are.

use std::fmt;

/// A mail's text; its file is in `templates/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Template {
    /// A plan was bought or changed.
    SubscriptionConfirmation,
    /// A period was renewed and paid.
    SubscriptionCycled,
    /// A cancellation was asked for.
    SubscriptionCancellation,
    /// A renewal could not be charged.
    SubscriptionPastDue,
    /// Access ended.
    SubscriptionRevoked,
    /// An organization was invited to the startup program.
    StartupWelcome,
}

impl Template {
    /// Every template.
    pub const ALL: [Self; 6] = [
        Self::SubscriptionConfirmation,
        Self::SubscriptionCycled,
        Self::SubscriptionCancellation,
        Self::SubscriptionPastDue,
        Self::SubscriptionRevoked,
        Self::StartupWelcome,
    ];

    /// The name in `mails`, in keys and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SubscriptionConfirmation => "polar_self_subscription_confirmation",
            Self::SubscriptionCycled => "polar_self_subscription_cycled",
            Self::SubscriptionCancellation => "polar_self_subscription_cancellation",
            Self::SubscriptionPastDue => "polar_self_subscription_past_due",
            Self::SubscriptionRevoked => "polar_self_subscription_revoked",
            Self::StartupWelcome => "polar_self_startup_program_welcome",
        }
    }

    /// Reads a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|template| template.name() == name)
    }

    /// The text of it, before it is filled.
    pub(super) const fn source(self) -> &'static str {
        match self {
            Self::SubscriptionConfirmation => {
                include_str!("templates/subscription_confirmation.jinja")
            }
            Self::SubscriptionCycled => include_str!("templates/subscription_cycled.jinja"),
            Self::SubscriptionCancellation => {
                include_str!("templates/subscription_cancellation.jinja")
            }
            Self::SubscriptionPastDue => include_str!("templates/subscription_past_due.jinja"),
            Self::SubscriptionRevoked => include_str!("templates/subscription_revoked.jinja"),
            Self::StartupWelcome => include_str!("templates/startup_program_welcome.jinja"),
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
