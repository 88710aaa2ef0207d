//! Makes a member at Polar as the application wants it: there with our external id, name, address
//! and role, or gone.
//!
//! The role comes first and waits for nothing else; then the name; the address last, because it is
//! what Polar may refuse. Whatever cannot be done is noted as out of step.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use crate::SyncCustomer;
use crate::contract::{Context, Done, Error, Job, NewJob};
use crate::customer::client_for;
use crate::mirror::out_of_step::{self, Cause, Subject};
use crate::mirror::wanted::{WantedCustomer, WantedMember};
use crate::mirror::{seen, wanted};
use crate::polar_sync::{Backoff, Failure, PolarCustomer};
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
        if organization.erasure_event.is_some() {
            let reason = "the customer of the organization's earlier life must go first";
            return self.without_team(context, &organization, reason).await;
        }
        if organization.customer.is_none() {
            // Polar has nobody to add a member to: two calls for nothing, and a backfill has thousands of
            // members whose customers wait for the budget.
            let reason = "the customer is made first";
            return self.without_team(context, &organization, reason).await;
        }
        let customer = PolarCustomer::new(context, polar, self.organization_id);
        let version = wanted.version;
        match self.sync(context, &customer, &wanted).await {
            Ok(done) => Ok(done),
            Err(Failure::NoTeam(reason)) => self.without_team(context, &organization, reason).await,
            Err(Failure::OthersFirst {
                first,
                others,
                reason,
            }) => self.again(context, version, first, others, reason).await,
            Err(failure) => Err(failure
                .conclude(context, self.organization_id, self.subject(), version)
                .await),
        }
    }
}

impl SyncMember {
    /// How its keys begin.
    pub(crate) const KEYS: &str = "sync_member/";

    const fn subject(self) -> Subject {
        Subject::Member(self.user_id)
    }

    async fn sync(
        self,
        context: &Context,
        customer: &PolarCustomer<'_>,
        wanted: &WantedMember,
    ) -> Result<Done, Failure> {
        if wanted.removed {
            customer.remove(wanted.user).await?;
            return Ok(self.finish(context, wanted, None, Vec::new()).await?);
        }
        let member = customer.ensure_member(wanted).await?;
        let (member, concerned) = customer.ensure_role(wanted, member).await?;
        match customer.ensure_details(wanted, &member).await {
            Ok(member) => Ok(self
                .finish(context, wanted, Some(&member.email), concerned)
                .await?),
            Err(failure) if concerned.is_empty() => Err(failure),
            // Whoever lost ownership must hear of it although this job is not done; a job that
            // fails has no followers, so the rest is left to another one.
            Err(_) => {
                let again = concerned.into_iter().chain([wanted.user]);
                Ok(Done::applied().then(again.map(|user| self.of(user))))
            }
        }
    }

    fn of(self, user_id: UserId) -> NewJob {
        NewJob::of(&Self { user_id, ..self })
    }

    /// Confirms what was read, and tries again whoever waited for an address that is free now, or for
    /// another owner. `keeps` is the address that the person has at Polar.
    async fn finish(
        self,
        context: &Context,
        wanted: &WantedMember,
        keeps: Option<&str>,
        mut concerned: Vec<UserId>,
    ) -> Result<Done, Error> {
        let mut transaction = context.begin().await?;
        // Ownership may have moved on since: then this call came late, and whoever owns by now must hear of it.
        if seen::member_synced(&mut transaction, self.organization_id, wanted).await? {
            concerned.push(wanted.user);
        }
        let owns = !wanted.removed && wanted.role.at_polar() == polar::Role::Owner;
        let waiting = out_of_step::waiting_for(
            &mut transaction,
            self.organization_id,
            wanted.user,
            keeps,
            owns,
        );
        concerned.extend(waiting.await?);
        let next = concerned.into_iter().map(|user| self.of(user));
        Ok(Done::applied().then(next).within(transaction))
    }

    /// Ends this run: the others first, then this one again.
    async fn again(
        self,
        context: &Context,
        version: i64,
        first: UserId,
        others: Vec<UserId>,
        reason: String,
    ) -> Result<Done, Error> {
        let holder = Some(first);
        let cause = Cause {
            reason: reason.clone(),
            refused_version: None,
            holder,
        };
        let waits =
            out_of_step::note_wait(&context.pool, self.organization_id, self.subject(), &cause)
                .await?;
        let Some(delay) = Backoff::after(waits).next() else {
            return Err(Failure::Refused { reason, holder }
                .conclude(context, self.organization_id, self.subject(), version)
                .await);
        };
        let others = others.into_iter().map(|user| self.of(user));
        let own = self.of(self.user_id).at(later(context, delay));
        Ok(Done::applied().then(others.chain([own])))
    }

    /// The customer comes first. Its sync brings every member whom Polar has not confirmed, so
    /// nobody is lost when this stops waiting.
    async fn without_team(
        self,
        context: &Context,
        organization: &WantedCustomer,
        reason: &str,
    ) -> Result<Done, Error> {
        let cause = Cause {
            reason: reason.to_owned(),
            refused_version: None,
            holder: None,
        };
        let waits =
            out_of_step::note_wait(&context.pool, self.organization_id, self.subject(), &cause)
                .await?;
        let backoff = Backoff::after(waits);
        let customer = NewJob::of(&SyncCustomer {
            organization_id: self.organization_id,
        });
        let customer = match (organization.customer, backoff.next()) {
            // It was there before, so no job is under way that makes it.
            (Some(_), _) if waits == 1 => customer,
            (Some(_), _) => customer.at(later(context, backoff.delay())),
            (None, Some(delay)) => return Err(Error::not_yet(reason, delay)),
            (None, None) => customer,
        };
        Ok(Done::ignored(format!("{reason}; its sync brings its members")).then([customer]))
    }
}

fn later(context: &Context, delay: std::time::Duration) -> chrono::DateTime<chrono::Utc> {
    context.job.started_at + TimeDelta::from_std(delay).unwrap_or_default()
}
