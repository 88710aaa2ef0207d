//! Cancels a subscription again whose cancellation was taken back for a change that never came.
//!
//! Polar changes the plan of no cancelled subscription, so a cancellation is taken back first. Whoever
//! does so writes this job before, for the case that the process dies in between or cannot know what
//! became of the change. Once the change is there, or the subscription is cancelled again, there is
//! nothing to do. Where this job ends without having known either, `resume_syncs` starts it again.

use std::time::Duration;

use polar::{OrAbsent, Subscription, SubscriptionUpdate};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::SyncSubscription;
use crate::contract::{Context, Done, Error, Job, NewJob};
use crate::customer::client_for;
use crate::mirror::api::change_leases;
use crate::mirror::api::resumed::{self, Resumed};
use crate::types::OrganizationId;

/// One organization.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreCancellation {
    /// Whose subscription.
    pub organization_id: OrganizationId,
}

/// How long this may take; a person who changes the subscription meanwhile is asked to come again.
const TERM: Duration = Duration::from_secs(30);
/// How long a person's change takes at most until the next look.
const BUSY_DELAY: Duration = Duration::from_secs(5);

impl Job for RestoreCancellation {
    const KIND: &'static str = "restore_cancellation";

    fn unique_key(&self) -> Option<String> {
        Some(format!("{}/{}", Self::KIND, self.organization_id))
    }

    fn ordering_key(&self) -> Option<String> {
        self.unique_key()
    }

    async fn run(self, context: &Context) -> Result<Done, Error> {
        let polar = match client_for(context, self.organization_id) {
            Ok(polar) => polar,
            Err(reason) => return Ok(Done::ignored(reason)),
        };
        let (pool, holder) = (&context.pool, Uuid::new_v4());
        if !change_leases::acquire(pool, self.organization_id, holder, TERM).await? {
            return Err(Error::not_yet(
                "the subscription is being changed",
                BUSY_DELAY,
            ));
        }
        let restored = self.restore(context, polar, holder).await;
        change_leases::release(pool, self.organization_id, holder).await?;
        restored
    }
}

impl RestoreCancellation {
    async fn restore(
        self,
        context: &Context,
        polar: &polar::Client,
        holder: Uuid,
    ) -> Result<Done, Error> {
        let Some(resumed) = resumed::read(&context.pool, self.organization_id).await? else {
            return Ok(Done::ignored("the change was made, or taken back"));
        };
        let found = polar.subscriptions().get(resumed.subscription).await;
        let mut found = found.or_absent()?;
        let is_left = found.as_ref().is_some_and(|found| is_left(found, resumed));
        if is_left {
            // Who stood still for too long would undo what a person has changed meanwhile.
            self.renew(&mut *context.pool.acquire().await?, holder)
                .await?;
            let cancel = SubscriptionUpdate::CANCEL;
            let updated = polar.subscriptions().update(resumed.subscription, &cancel);
            found = Some(updated.await.map_err(changed_meanwhile)?);
        }
        // Before the lease is given back: the next one may note something of its own.
        let mut transaction = context.begin().await?;
        self.renew(&mut transaction, holder).await?;
        resumed::end(&mut transaction, self.organization_id, found.as_ref()).await?;
        transaction.commit().await?;
        let done = match is_left {
            true => Done::applied(),
            false => Done::ignored("the change was made after all"),
        };
        let sync = NewJob::of(&SyncSubscription::of(self.organization_id));
        Ok(done.then([sync]))
    }

    /// Prolongs the lease; where it was lost, this is to look again.
    async fn renew(self, connection: &mut PgConnection, holder: Uuid) -> Result<(), Error> {
        match change_leases::renew(connection, self.organization_id, holder, TERM).await? {
            true => Ok(()),
            false => Err(Error::not_yet(
                "the subscription may have been changed meanwhile",
                BUSY_DELAY,
            )),
        }
    }
}

/// Polar cancels nothing that is cancelled, or has ended, since the look: another one finds that
/// (docs/polar-facts.md#subscription-change).
fn changed_meanwhile(error: polar::Error) -> Error {
    match error {
        polar::Error::Forbidden { error, .. } if error == "AlreadyCanceledSubscription" => {
            Error::Retry("the subscription was changed meanwhile".to_owned())
        }
        error => error.into(),
    }
}

/// Whether it goes on although it was cancelled, and without the change for which it was resumed.
fn is_left(found: &Subscription, resumed: Resumed) -> bool {
    found.status.is_in_force() && !found.cancel_at_period_end && !resumed.target.is_reached(found)
}
