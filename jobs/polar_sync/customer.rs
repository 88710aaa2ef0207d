//! One organization's customer at Polar, and how a person becomes a member of it as wanted.

use polar::{CustomerType, Member, MemberUpdate, NewMember, OrAbsent};

use super::{Failure, address_clash, refused_address};
use crate::contract::{Context, Error};
use crate::mirror::wanted::WantedMember;
use crate::types::{Email, OrganizationId};

/// One organization's customer at Polar.
pub(crate) struct PolarCustomer<'a> {
    pub(super) context: &'a Context,
    pub(super) polar: &'a polar::Client,
    pub(super) organization: OrganizationId,
    /// The organization's id as Polar's external id.
    pub(super) external_id: String,
}

impl<'a> PolarCustomer<'a> {
    pub(crate) fn new(
        context: &'a Context,
        polar: &'a polar::Client,
        organization: OrganizationId,
    ) -> Self {
        Self {
            context,
            polar,
            organization,
            external_id: organization.to_string(),
        }
    }

    /// Makes sure that a member with our external id is there. Name, address and role of one who is
    /// a member already are left alone; see `ensure_role` and `ensure_details`.
    pub(crate) async fn ensure_member(&self, wanted: &WantedMember) -> Result<Member, Failure> {
        let user = wanted.user.to_string();
        let members = self.polar.members();
        match members.get(&self.external_id, &user).await.or_absent()? {
            Some(member) => Ok(member),
            None => self.add(wanted).await,
        }
    }

    /// Adds the person. Where the address is known already Polar answers with the member who has
    /// it, unchanged, so the answer is compared.
    async fn add(&self, wanted: &WantedMember) -> Result<Member, Failure> {
        let email = wanted.email.as_ref().ok_or_else(|| no_address(wanted))?;
        let answered = self.create(wanted, email.as_str()).await?;
        if is_of(&answered, wanted) {
            return Ok(answered);
        }
        let address = match address_clash::free_address(self, wanted, &answered).await {
            Ok(()) => email.as_str().to_owned(),
            Err(failure) => self.stand_in(wanted, email).ok_or(failure)?,
        };
        let answered = self.create(wanted, &address).await?;
        if is_of(&answered, wanted) {
            return Ok(answered);
        }
        Err(Error::Retry("the address is still taken after it was freed".to_owned()).into())
    }

    /// The address under which somebody is added whose own is taken. Only the wanted owner gets one: ownership
    /// does not wait for an address, and the owner before may be the one who has it.
    fn stand_in(&self, wanted: &WantedMember, email: &Email) -> Option<String> {
        let owns = wanted.role.at_polar() == polar::Role::Owner;
        owns.then(|| email.stand_in(wanted.user)).flatten()
    }

    async fn create(&self, wanted: &WantedMember, email: &str) -> Result<Member, Failure> {
        let user = wanted.user.to_string();
        let role = match wanted.role.at_polar() {
            // Polar makes no second owner; promotion comes after.
            polar::Role::Owner => polar::Role::BillingManager,
            role => role,
        };
        let new = NewMember {
            email: email.to_owned(),
            name: wanted.name.clone(),
            external_id: user.clone(),
            role,
        };
        let members = self.polar.members();
        match members.create_external(&self.external_id, &new).await {
            Ok(member) => Ok(member),
            Err(error) if error.is_not_found() => {
                Err(Failure::NoTeam("the customer does not exist at Polar"))
            }
            Err(error @ polar::Error::Forbidden { .. }) => Err(self.forbidden(error).await),
            Err(error) if error.is_undeliverable_email() => {
                Err(refused_address(self.context, wanted).await)
            }
            // The loser of a race to add the same member sees a 500: the member is there then.
            Err(error @ polar::Error::Unavailable { .. }) => {
                let found = members.get(&self.external_id, &user).await.or_absent()?;
                found.ok_or_else(|| error.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// An individual customer takes no members until it is made a team.
    async fn forbidden(&self, error: polar::Error) -> Failure {
        match self.find().await {
            Ok(Some(customer)) if customer.kind == CustomerType::Individual => {
                Failure::NoTeam("the customer at Polar is a single person")
            }
            Ok(_) => error.into(),
            Err(error) => error.into(),
        }
    }

    /// Changes name and address where they differ. Where Polar refuses the address it changes nothing of the
    /// request, so the name is sent again by itself.
    pub(crate) async fn ensure_details(
        &self,
        wanted: &WantedMember,
        member: &Member,
    ) -> Result<Member, Failure> {
        let name = member.name.as_deref().unwrap_or_default() != wanted.name;
        let name = name.then(|| wanted.name.clone());
        let email = wanted.email.as_ref();
        let Some(email) = email.filter(|email| !email.is_same_as(&member.email)) else {
            return self.rename(wanted, member, name).await;
        };
        let update = MemberUpdate {
            name: name.clone(),
            email: Some(email.as_str().to_owned()),
            role: None,
        };
        match self.update(wanted, &update).await {
            Err(Failure::Other(Error::Polar(error))) if error.is_duplicate_email() => {
                let member = self.rename(wanted, member, name).await?;
                address_clash::free_address_for_member(self, wanted, email, &member).await?;
                let update = MemberUpdate {
                    name: None,
                    ..update
                };
                self.update(wanted, &update).await
            }
            Err(Failure::Other(Error::Polar(error))) if error.is_undeliverable_email() => {
                self.rename(wanted, member, name).await?;
                Err(refused_address(self.context, wanted).await)
            }
            result => result,
        }
    }

    async fn rename(
        &self,
        wanted: &WantedMember,
        member: &Member,
        name: Option<String>,
    ) -> Result<Member, Failure> {
        let update = MemberUpdate {
            name,
            ..MemberUpdate::default()
        };
        if update.is_empty() {
            return Ok(member.clone());
        }
        self.update(wanted, &update).await
    }

    /// One PATCH of the person's member.
    pub(super) async fn update(
        &self,
        wanted: &WantedMember,
        update: &MemberUpdate,
    ) -> Result<Member, Failure> {
        let user = wanted.user.to_string();
        let members = self.polar.members();
        match members.update(&self.external_id, &user, update).await {
            Err(error) if error.is_not_found() => Err(Error::Retry(format!(
                "the member of user {user} vanished between look and change"
            ))
            .into()),
            result => Ok(result?),
        }
    }
}

fn is_of(member: &Member, wanted: &WantedMember) -> bool {
    member.external_id.as_deref() == Some(wanted.user.to_string().as_str())
}

fn no_address(wanted: &WantedMember) -> Failure {
    Failure::refused(format!(
        "no address of user {} is known; it is synced when one comes",
        wanted.user
    ))
}
