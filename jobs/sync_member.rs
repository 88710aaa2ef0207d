//! Makes a member at Polar as the application wants it: there with our external id, name, address
//! and role, or gone.
//!
//! The role comes first and waits for nothing else; then the name; the address last, because it is
//! what Polar may refuse. Whatever cannot be done is noted as out of step.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::SyncCustomer;
use crate::contract::{Context, Done, Error, Job, NewJob};
use crate::customer::client_for;
use crate::mirror::out_of_step::{self, Cause, Subject};
use crate::mirror::wanted::{WantedCustomer, WantedMember};
use crate::mirror::{seen, wanted};
use crate::polar_sync::{Failure, PolarCustomer, SyncTarget};
use crate::types::{OrganizationId, UserId};

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
    const SYNCS: bool = true;

    fn unique_key(&self) -> Option<String> {
        let keys = Self::KEYS;
        Some(format!("{keys}{}/{}", self.organization_id, self.user_id))
    }

    fn ordering_key(&self) -> Option<String> {
        self.unique_key()
    }

    async fn run(self, context: &Context) -> Result<Done, Error> {
        let polar = match client_for(context, self.organization_id) {
            Ok(polar) => polar,
            Err(reason) => return Ok(Done::ignored(reason)),
        };
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
        let run = Run {
            context,
            customer: PolarCustomer::new(context, polar, self.organization_id),
            job: self,
            organization,
            wanted,
        };
        match run.sync().await {
            Ok(done) => Ok(done),
            Err(Failure::NoTeam(reason)) => run.customer_first(reason).await,
            Err(Failure::OthersFirst {
                first,
                others,
                reason,
            }) => run.others_first(first, others, reason).await,
            Err(failure) => Err(failure.conclude(context, run.target()).await),
        }
    }
}

impl SyncMember {
    /// How its keys begin.
    pub(crate) const KEYS: &str = "sync_member/";

    /// The same job for another user.
    fn of(self, user_id: UserId) -> NewJob {
        NewJob::of(&Self { user_id, ..self })
    }
}

/// One run for one person.
struct Run<'a> {
    context: &'a Context,
    customer: PolarCustomer<'a>,
    job: SyncMember,
    organization: WantedCustomer,
    wanted: WantedMember,
}

impl Run<'_> {
    const fn target(&self) -> SyncTarget {
        SyncTarget {
            organization: self.job.organization_id,
            subject: Subject::Member(self.job.user_id),
            version: self.wanted.version,
        }
    }

    async fn sync(&self) -> Result<Done, Failure> {
        if self.organization.erasure_event.is_some() {
            return Err(Failure::NoTeam(
                "the customer of the organization's earlier life must go first",
            ));
        }
        if self.organization.customer.is_none() {
            // Polar has nobody to add a member to: two calls for nothing, and a backfill has thousands of
            // members whose customers wait for the budget.
            return Err(Failure::NoTeam("the customer is made first"));
        }
        let (customer, wanted) = (&self.customer, &self.wanted);
        if wanted.removed {
            customer.remove(wanted.user).await?;
            return Ok(self.finish(None, Vec::new()).await?);
        }
        let member = customer.ensure_member(wanted).await?;
        let (member, concerned) = customer.ensure_role(wanted, member).await?;
        match customer.ensure_details(wanted, &member).await {
            Ok(member) => Ok(self.finish(Some(&member.email), concerned).await?),
            Err(failure) if concerned.is_empty() => Err(failure),
            // Whoever lost ownership must be synced although this job is not done. A job that fails has no
            // follow-ups, so this one ends as done and leaves the rest to another one for the same person.
            Err(_) => {
                let again = concerned.into_iter().chain([wanted.user]);
                Ok(Done::applied().then(again.map(|user| self.job.of(user))))
            }
        }
    }

    /// Confirms what was read, and tries again whoever waited for an address that is free now, or for
    /// another owner. `keeps` is the address that the person has at Polar.
    async fn finish(&self, keeps: Option<&str>, mut concerned: Vec<UserId>) -> Result<Done, Error> {
        let (organization, wanted) = (self.job.organization_id, &self.wanted);
        let mut transaction = self.context.begin().await?;
        // Something newer may be wanted by now: then what was done here came late, and is done again.
        if seen::member_synced(&mut transaction, organization, wanted).await? {
            concerned.push(wanted.user);
        }
        let owns = !wanted.removed && wanted.role.at_polar() == polar::Role::Owner;
        let waiting =
            out_of_step::waiting_for(&mut transaction, organization, wanted.user, keeps, owns);
        concerned.extend(waiting.await?);
        let next = concerned.into_iter().map(|user| self.job.of(user));
        Ok(Done::applied().then(next).within(transaction))
    }

    /// Ends this run: the others first, then this one again.
    async fn others_first(
        &self,
        first: UserId,
        others: Vec<UserId>,
        reason: String,
    ) -> Result<Done, Error> {
        let (pool, holder) = (&self.context.pool, Some(first));
        let cause = Cause::temporary(reason.as_str(), holder);
        let backoff = self.target().note_wait(pool, &cause).await?;
        let Some(delay) = backoff.next() else {
            return Err(self.target().refuse(pool, reason, holder).await?);
        };
        let others = others.into_iter().map(|user| self.job.of(user));
        let own = NewJob::of(&self.job).at(self.later(delay));
        Ok(Done::applied().then(others.chain([own])))
    }

    /// Ends this run: the customer first. Its sync brings every member whom Polar has not confirmed, so
    /// nobody is lost when this stops waiting.
    async fn customer_first(&self, reason: &str) -> Result<Done, Error> {
        let cause = Cause::temporary(reason, None);
        let backoff = self.target().note_wait(&self.context.pool, &cause).await?;
        let customer = NewJob::of(&SyncCustomer {
            organization_id: self.job.organization_id,
        });
        let customer = match (self.organization.customer, backoff.next()) {
            // It was there before, so no job is under way that makes it.
            (Some(_), _) if backoff.is_first() => customer,
            (Some(_), _) => customer.at(self.later(backoff.delay())),
            (None, Some(delay)) => return Err(Error::not_yet(reason, delay)),
            (None, None) => customer,
        };
        Ok(Done::ignored(format!("{reason}; its sync brings its members")).then([customer]))
    }

    fn later(&self, delay: Duration) -> DateTime<Utc> {
        self.context.job.started_at + TimeDelta::from_std(delay).unwrap_or_default()
    }
}
