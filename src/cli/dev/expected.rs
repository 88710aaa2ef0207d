//! What should have come of each organization when the demo scenario is over.

/// The end of one organization.
pub(super) struct Expected {
    /// What it is called by then.
    pub(super) name: &'static str,
    /// Who belongs to it, by name; nobody where it has left.
    pub(super) people: &'static [Member],
    /// The plan that the application sees.
    pub(super) plan: &'static str,
    /// Its tier at the support desk, where plans are bought.
    pub(super) support_tier: &'static str,
    /// Each template with the number of people who were told: those who manage billing, which are the owner and admins.
    pub(super) mails: &'static str,
}

/// Somebody who belongs to an organization.
pub(super) struct Member {
    /// The name that the ids and the address follow from.
    pub(super) person: &'static str,
    /// What the person is called by then.
    pub(super) name: &'static str,
    pub(super) role: &'static str,
}

impl Expected {
    pub(super) fn has_left(&self) -> bool {
        self.people.is_empty()
    }
}

impl Member {
    const fn new(name: &'static str, role: &'static str) -> Self {
        Self {
            person: name,
            name,
            role,
        }
    }

    /// The role that Polar has for it.
    pub(super) fn role_at_polar(&self) -> &'static str {
        match self.role {
            "admin" => "billing_manager",
            role => role,
        }
    }
}

pub(super) const ACME: Expected = Expected {
    name: "Acme",
    people: &[
        Member::new("Ada", "admin"),
        Member::new("Ken", "admin"),
        Member::new("Linus", "owner"),
    ],
    plan: "Scale active",
    support_tier: "scale",
    mails: "confirmation 6, cycled 3",
};

pub(super) const GLOBEX: Expected = Expected {
    name: "Globex International",
    people: &[
        Member::new("Dennis", "member"),
        Member {
            person: "Grace",
            name: "Grace Hopper",
            role: "owner",
        },
    ],
    plan: "Growth active",
    support_tier: "growth",
    mails: "confirmation 1, cycled 1, past_due 1",
};

pub(super) const INITECH: Expected = Expected {
    name: "Initech",
    people: &[Member::new("Bill", "owner")],
    plan: "Pro active",
    support_tier: "pro",
    mails: "cancellation 1, confirmation 1",
};

pub(super) const UMBRELLA: Expected = Expected {
    name: "Umbrella",
    people: &[Member::new("Alice", "owner")],
    plan: "Free -",
    support_tier: "free",
    mails: "cancellation 1, confirmation 1, revoked 1",
};

pub(super) const HOOLI: Expected = Expected {
    name: "Hooli",
    people: &[],
    plan: "none",
    support_tier: "free",
    mails: "none",
};
