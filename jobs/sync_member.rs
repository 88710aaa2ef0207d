//! Makes a member at Polar as the application wants it: there with our external id, name, address
//! and role, or gone (polar-domain (b.3)-(b.5)).

use serde::{Deserialize, Serialize};

use crate::SyncCustomer;
use crate::at_polar::{Missing, NOT_CONFIGURED, Seat, patience};
use crate::contract::{Context, Done, Error, Job, NewJob};
use crate::mirror::wanted::WantedMember;
use crate::mirror::{seen, unsynced, wanted};
use crate::terms::{OrganizationId, UserId};

/// Sync one person of one organization.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncMember {
    /// The organization.
    pub organization_id: OrganizationId,
    /// The person.
    pub user_id: UserId,
}

impl Job for SyncMember {
    const KIND: &'static str = "sync_member";

    fn unique_key(&self) -> Option<String> {
        let keys = Self::KEYS;
        Some(format!("{keys}{}/{}", self.organization_id, self.user_id))
    }

    fn ordering_key(&self) -> Option<String> {
        self.unique_key()
    }

    async fn run(self, context: &Context) -> Result<Done, Error> {
        let Some(polar) = &context.polar else {
            return Ok(Done::ignored(NOT_CONFIGURED));
        };
        if context.settings.self_organization == Some(self.organization_id.0) {
            return Ok(Done::ignored(
                "the self organization is no customer of its own",
            ));
        }
        let Some(organization) = wanted::customer(&context.pool, self.organization_id).await?
        else {
            return Ok(Done::ignored(
                "the organization is not created yet; its creation brings its members",
            ));
        };
        if organization.deleted {
            return Ok(Done::ignored(
                "the organization was deleted, and its members with it",
            ));
        }
        let Some(wanted) =
            wanted::member(&context.pool, self.organization_id, self.user_id).await?
        else {
            return Ok(Done::ignored("never was a member"));
        };
        if organization.erasure_event.is_some() {
            return self.without_customer(context);
        }
        let seat = Seat::new(context, polar, self.organization_id);
        match sync(&seat, &wanted).await? {
            Ok(concerned) => self.finish(context, &wanted, concerned).await,
            Err(Missing) => self.without_customer(context),
        }
    }
}

/// Answers whom else the sync concerned.
async fn sync(
    seat: &Seat<'_>,
    wanted: &WantedMember,
) -> Result<Result<Vec<UserId>, Missing>, Error> {
    if wanted.removed {
        seat.remove(wanted.user).await?;
        return Ok(Ok(Vec::new()));
    }
    match seat.bring(wanted).await? {
        Ok(member) => seat.settle_role(wanted, &member).await.map(Ok),
        Err(Missing) => Ok(Err(Missing)),
    }
}

impl SyncMember {
    /// How its keys begin.
    pub(crate) const KEYS: &str = "sync_member/";

    async fn finish(
        self,
        context: &Context,
        wanted: &WantedMember,
        mut concerned: Vec<UserId>,
    ) -> Result<Done, Error> {
        let mut transaction = context.begin().await?;
        seen::member_synced(&mut transaction, self.organization_id, wanted).await?;
        if wanted.removed {
            let heirs =
                unsynced::heirs_of_address(&mut transaction, self.organization_id, wanted.user);
            concerned.extend(heirs.await?);
        }
        let next = concerned
            .into_iter()
            .map(|user_id| NewJob::of(&Self { user_id, ..self }));
        Ok(Done::applied().then(next).within(transaction))
    }

    /// The customer comes first. Its sync brings every member whom Polar has not confirmed, so
    /// nobody is lost when this stops waiting (polar-domain (b.3)).
    fn without_customer(self, context: &Context) -> Result<Done, Error> {
        match patience(context) {
            Some(wait) => Err(Error::not_yet("the customer does not exist at Polar", wait)),
            None => {
                let customer = SyncCustomer {
                    organization_id: self.organization_id,
                };
                Ok(Done::ignored(
                    "the customer does not exist at Polar; its sync brings its members",
                )
                .then([NewJob::of(&customer)]))
            }
        }
    }
}
