//! One organization's customer at Polar, and how a person becomes a member of it as wanted
//! (polar-domain (b.3), (b.4), R3).

use polar::{MemberUpdate, NewMember, OrAbsent};

use super::{clash, refused_address};
use crate::contract::{Context, Error};
use crate::mirror::wanted::WantedMember;
use crate::terms::OrganizationId;

/// The customer does not exist at Polar, so nobody can be its member.
pub(crate) struct Missing;

/// One organization's customer at Polar.
pub(crate) struct Seat<'a> {
    pub(super) context: &'a Context,
    pub(super) polar: &'a polar::Client,
    pub(super) organization: OrganizationId,
    /// The organization's id as Polar's external id.
    pub(super) customer: String,
}

impl<'a> Seat<'a> {
    pub(crate) fn new(
        context: &'a Context,
        polar: &'a polar::Client,
        organization: OrganizationId,
    ) -> Self {
        Self {
            context,
            polar,
            organization,
            customer: organization.to_string(),
        }
    }

    /// Makes the person a member with our external id, name and address. The role of one who is a
    /// member already is left alone; see `settle_role`.
    pub(crate) async fn bring(
        &self,
        wanted: &WantedMember,
    ) -> Result<Result<polar::Member, Missing>, Error> {
        let user = wanted.user.to_string();
        let found = self
            .polar
            .members()
            .get(&self.customer, &user)
            .await
            .or_absent()?;
        let member = match found {
            Some(member) => member,
            None => match self.add(wanted).await? {
                Ok(member) => member,
                Err(Missing) => return Ok(Err(Missing)),
            },
        };
        self.correct(wanted, member).await.map(Ok)
    }

    /// Adds the person. Polar answers with the existing member where the address is known, so the
    /// answer is compared; the address is then freed, once, and the person added again.
    async fn add(&self, wanted: &WantedMember) -> Result<Result<polar::Member, Missing>, Error> {
        let mut freed = false;
        loop {
            let member = match self.create(wanted).await? {
                Ok(member) => member,
                Err(Missing) => return Ok(Err(Missing)),
            };
            if member.external_id.as_deref() == Some(wanted.user.to_string().as_str()) {
                return Ok(Ok(member));
            }
            if freed {
                return Err(Error::Retry(
                    "the address is still taken after it was freed".to_owned(),
                ));
            }
            clash::free_address(self, wanted, &member).await?;
            freed = true;
        }
    }

    async fn create(&self, wanted: &WantedMember) -> Result<Result<polar::Member, Missing>, Error> {
        let user = wanted.user.to_string();
        let role = match wanted.role.at_polar() {
            // Polar makes no second owner; promotion comes after (polar-domain (b.3)).
            polar::Role::Owner => polar::Role::BillingManager,
            role => role,
        };
        let email = address(wanted)?;
        let new = NewMember {
            email,
            name: wanted.name.clone(),
            external_id: user.clone(),
            role,
        };
        match self
            .polar
            .members()
            .create_external(&self.customer, &new)
            .await
        {
            Ok(member) => Ok(Ok(member)),
            Err(error) if error.is_not_found() => Ok(Err(Missing)),
            Err(error) if error.is_undeliverable_email() => {
                Err(refused_address(self.context, wanted).await)
            }
            // The loser of a race sees a 500: the member is there then (R3).
            Err(error @ polar::Error::Unavailable { .. }) => {
                match self
                    .polar
                    .members()
                    .get(&self.customer, &user)
                    .await
                    .or_absent()?
                {
                    Some(member) => Ok(Ok(member)),
                    None => Err(error.into()),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Changes name and address where they differ.
    async fn correct(
        &self,
        wanted: &WantedMember,
        member: polar::Member,
    ) -> Result<polar::Member, Error> {
        let email = address(wanted)?;
        let known = wanted
            .email
            .as_ref()
            .is_some_and(|email| email.is_same_as(&member.email));
        let update = MemberUpdate {
            name: (member.name.as_deref() != Some(&wanted.name)).then(|| wanted.name.clone()),
            email: (!known).then_some(email),
            role: None,
        };
        if update.is_empty() {
            return Ok(member);
        }
        match self.update(wanted, &update).await {
            Err(Error::Polar(error)) if error.is_duplicate_email() => {
                clash::free_address_of_unknown(self, wanted).await?;
                self.update(wanted, &update).await
            }
            Err(Error::Polar(error)) if error.is_undeliverable_email() => {
                Err(refused_address(self.context, wanted).await)
            }
            result => result,
        }
    }

    /// One PATCH of the person's member.
    pub(super) async fn update(
        &self,
        wanted: &WantedMember,
        update: &MemberUpdate,
    ) -> Result<polar::Member, Error> {
        let user = wanted.user.to_string();
        match self
            .polar
            .members()
            .update(&self.customer, &user, update)
            .await
        {
            Err(error) if error.is_not_found() => Err(Error::Retry(format!(
                "the member of user {user} vanished between look and change"
            ))),
            result => Ok(result?),
        }
    }
}

fn address(wanted: &WantedMember) -> Result<String, Error> {
    let unknown = || {
        Error::discard(format!(
            "no usable address of user {} is known; it is synced when one comes",
            wanted.user
        ))
    };
    wanted
        .email
        .as_ref()
        .map(|email| email.as_str().to_owned())
        .ok_or_else(unknown)
}
