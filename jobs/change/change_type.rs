//! The types of changes, by name: the one list of them, for the fields of each are chosen by it.

/// What kind of change it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeType {
    /// `organization.created`
    OrganizationCreated,
    /// `organization.updated`
    OrganizationUpdated,
    /// `organization.deleted`
    OrganizationDeleted,
    /// `member.added`
    MemberAdded,
    /// `member.updated`
    MemberUpdated,
    /// `member.removed`
    MemberRemoved,
    /// `user.updated`
    UserUpdated,
    /// `ownership.transferred`
    OwnershipTransferred,
    /// `usage.recorded`
    UsageRecorded,
    /// `cost.recorded`
    CostRecorded,
}

impl ChangeType {
    /// Every type, in the order in which a fault names them.
    pub const ALL: [Self; 10] = [
        Self::OrganizationCreated,
        Self::OrganizationUpdated,
        Self::OrganizationDeleted,
        Self::MemberAdded,
        Self::MemberUpdated,
        Self::MemberRemoved,
        Self::UserUpdated,
        Self::OwnershipTransferred,
        Self::UsageRecorded,
        Self::CostRecorded,
    ];

    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OrganizationCreated => "organization.created",
            Self::OrganizationUpdated => "organization.updated",
            Self::OrganizationDeleted => "organization.deleted",
            Self::MemberAdded => "member.added",
            Self::MemberUpdated => "member.updated",
            Self::MemberRemoved => "member.removed",
            Self::UserUpdated => "user.updated",
            Self::OwnershipTransferred => "ownership.transferred",
            Self::UsageRecorded => "usage.recorded",
            Self::CostRecorded => "cost.recorded",
        }
    }

    /// The type that [`ChangeType::as_str`] names.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == text)
    }
}
