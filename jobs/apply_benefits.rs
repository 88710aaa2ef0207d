//! Makes fees, support tier and flags follow the grants that Polar says are active.
//!
//! A delivery is only a reason to ask: whether it said granted or revoked, and in which order they
//! came, plays no role. A grant of a benefit that switches nothing on is no reason, and its job has
//! a key of its own: merged with a job that has a reason, one of the two would decide for both.

use polar::{CustomerRef, EventType, Peek};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::SyncSupportDesk;
use crate::benefits;
use crate::contract::{Context, Done, Error, Job, NewJob, priority};
use crate::customer::{CustomerIds, Readiness, or_out_of_step};
use crate::mirror::out_of_step::{self, Cause, Subject};
use crate::mirror::{self, answers, support_desk};
use crate::types::OrganizationId;

/// Apply what a customer's active grants say, or what the holders of one benefit have now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyBenefits {
    /// Whose grants.
    #[serde(flatten)]
    pub customer: CustomerIds,
    /// A benefit whose definition changed: its holders are looked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub benefit_id: Option<Uuid>,
    /// The delivery is about a benefit that switches nothing on, so nobody is asked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub switches_nothing: bool,
}

impl ApplyBenefits {
    /// The job that a delivery about a grant or a benefit starts.
    #[must_use]
    pub fn for_delivery(peek: &Peek) -> Self {
        if peek.event_type == Some(EventType::BenefitUpdated) {
            // Whatever it switches on now: its holders may have what it switched on before.
            return Self {
                benefit_id: peek.benefit_id.map(Uuid::from),
                ..Self::default()
            };
        }
        Self {
            customer: CustomerIds::of_delivery(peek),
            benefit_id: None,
            switches_nothing: peek
                .benefit_type
                .as_deref()
                .is_some_and(|benefit_type| !benefits::is_ours(benefit_type)),
        }
    }

    /// The job that asks for one organization, without a delivery.
    #[must_use]
    pub fn of(organization: OrganizationId) -> Self {
        Self {
            customer: CustomerIds::of(organization),
            ..Self::default()
        }
    }
}

impl Job for ApplyBenefits {
    const KIND: &'static str = "apply_benefits";
    const SYNCS: bool = true;

    /// A burst about one customer collapses into one question.
    fn unique_key(&self) -> Option<String> {
        let subject = match self.benefit_id {
            Some(benefit) => format!("benefit/{benefit}"),
            None => self.customer.key()?,
        };
        let reason = if self.switches_nothing {
            "nothing/"
        } else {
            ""
        };
        Some(format!("{}/{reason}{subject}", Self::KIND))
    }

    fn ordering_key(&self) -> Option<String> {
        self.unique_key()
    }

    async fn run(self, context: &Context) -> Result<Done, Error> {
        if self.switches_nothing {
            return Ok(Done::ignored("the benefit switches nothing on here"));
        }
        if let Some(benefit) = self.benefit_id {
            return Ok(reread_holders(context, benefit).await?);
        }
        match self.customer.readiness(context).await? {
            Readiness::Ready(polar, organization) => {
                let applied = apply(context, polar, organization).await;
                or_out_of_step(context, organization, applied).await
            }
            Readiness::Done(done) => Ok(done),
        }
    }
}

/// There may be ten thousand holders, so this waits behind what people buy; a purchase by one of
/// them makes that one's job urgent.
async fn reread_holders(context: &Context, benefit: Uuid) -> Result<Done, sqlx::Error> {
    let holders = mirror::benefits::holders(&context.pool, benefit).await?;
    if holders.is_empty() {
        return Ok(Done::ignored("nobody holds the benefit"));
    }
    let reread = |holder| NewJob::of(&ApplyBenefits::of(holder)).with_priority(priority::BACKFILL);
    Ok(Done::applied().then(holders.into_iter().map(reread)))
}

async fn apply(
    context: &Context,
    polar: &polar::Client,
    organization: OrganizationId,
) -> Result<Done, Error> {
    let answer_number = answers::next_answer_number(&context.pool).await?;
    let external_id = organization.to_string();
    let grants = polar
        .benefit_grants()
        .active(CustomerRef::External(&external_id))
        .await?;
    let held = benefits::held(&grants);
    let (entitlements, faults) = benefits::read(&held);
    let mut transaction = context.begin().await?;
    let ids: Vec<Uuid> = held.iter().map(|benefit| benefit.id.0).collect();
    let written = mirror::benefits::write(
        &mut transaction,
        organization,
        &entitlements,
        &ids,
        answer_number,
    )
    .await?;
    let sync = match written {
        true => support_desk_sync(context, &mut transaction, organization).await?,
        false => None,
    };
    if faults.is_empty() {
        if !written {
            return Ok(Done::ignored("a later answer was applied before"));
        }
        out_of_step::clear(&mut transaction, organization, Subject::Benefits).await?;
        return Ok(Done::applied().then(sync).within(transaction));
    }
    // What can be read is in force at once; the rest waits for somebody to correct the catalogue.
    let faults = faults.join("; ");
    if written {
        let reason = format!("the catalogue at Polar must be corrected: {faults}");
        let cause = Cause::temporary(reason, None);
        out_of_step::note(&mut *transaction, organization, Subject::Benefits, &cause).await?;
    }
    if let Some(sync) = sync {
        support_desk::start(&mut transaction, &sync).await?;
    }
    transaction.commit().await?;
    metrics::counter!("polar_jobs_catalogue_faults_total").increment(1);
    tracing::error!(%organization, %faults, "the catalogue at Polar must be corrected: an entitlement cannot be decided");
    Err(Error::Retry(faults))
}

/// The job that brings a tier just written to the support desk, where one is needed.
async fn support_desk_sync(
    context: &Context,
    connection: &mut PgConnection,
    organization: OrganizationId,
) -> Result<Option<NewJob>, sqlx::Error> {
    if context.settings.support_desk.is_none() {
        return Ok(None);
    }
    let sync = SyncSupportDesk::of(organization);
    let key = sync.ordering_key.as_deref();
    let needed = support_desk::tier_needs_sync(connection, organization, key).await?;
    Ok(needed.then_some(sync))
}
