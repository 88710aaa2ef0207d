//! Compares one organization with its customer at Polar: name and slug, members, grants, subscription.
//!
//! What was read here before Polar was asked is read again afterwards. What changed meanwhile, or what an
//! unfinished job works on, is not reported as a difference: it may be on its way. What
//! differs in both readings gets a job all the same, because the other one may not repair it; where it does, this job finds
//! nothing to do.

mod customer;
mod fields;
mod holdings;
mod members;
mod run;

use polar::{CustomerId, CustomerRef, CustomerState, Member, MemberId, OrAbsent, Subscription};
use sqlx::PgPool;

use crate::change::organization_key;
use crate::contract::{Error, NewJob};
use crate::mirror::differences::Difference;
use crate::mirror::held::{self, HeldOrganization};
use crate::mirror::unfinished_jobs;
use crate::types::{OrganizationId, UserId};
use crate::{ApplyBenefits, SyncCustomer, SyncMember, SyncSubscription};

pub use run::{Batch, Finding, Run, Stranger, Strangers};

/// Polar confirmed it, and has it differently now.
const CHANGED: &str = "changed at Polar";
/// Polar never confirmed it, and no job is under way.
const UNCONFIRMED: &str = "not synced yet";
/// A change at Polar whose delivery never came here, or could not be followed.
const MISSED: &str = "its delivery was missed";

/// What Polar has of one organization.
struct AtPolar {
    state: Option<CustomerState>,
    members: Vec<Member>,
    subscriptions: Vec<Subscription>,
}

/// What a comparison of one organization came to.
#[derive(Debug, Default)]
pub struct Comparison {
    /// What differs.
    pub differences: Vec<Difference>,
    /// Subjects that would differ, but that changed meanwhile or that jobs are under way about.
    pub under_way: Vec<String>,
    /// The jobs that repair what differs, or would.
    pub repairs: Vec<NewJob>,
    /// The customer that we know and Polar has no longer.
    pub lost: Option<CustomerId>,
    /// Members of the customer who are none of ours and do not own it.
    pub foreign_members: Vec<ForeignMember>,
}

/// A member at Polar who is none of ours as far as was known when Polar was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForeignMember {
    /// Whose member.
    pub customer: CustomerId,
    /// Polar's id.
    pub id: MemberId,
    /// The user whose id the member carries: one who may be announced later.
    pub user: Option<UserId>,
}

/// A difference that was found, with what repairs it.
struct Found {
    difference: Difference,
    repair: Option<NewJob>,
    foreign_member: Option<ForeignMember>,
}

/// Compares one organization; `None` where it does not live.
///
/// # Errors
/// If the database fails, or Polar does not answer.
pub async fn compare(
    pool: &PgPool,
    polar: &polar::Client,
    organization: OrganizationId,
) -> Result<Option<Comparison>, Error> {
    let Some(before) = held::organization(pool, organization).await? else {
        return Ok(None);
    };
    let at_polar = ask(polar, organization).await?;
    let Some(after) = held::organization(pool, organization).await? else {
        return Ok(None);
    };
    let (mut earlier, mut comparison) = (
        differ(organization, &before, &at_polar),
        Comparison::default(),
    );
    if at_polar.state.is_none() {
        comparison.lost = after.customer.filter(|_| after.customer == before.customer);
    }
    for found in differ(organization, &after, &at_polar) {
        let subject = &found.difference.subject;
        let known = earlier
            .iter()
            .position(|one| one.difference.subject == *subject);
        let Some(known) = known.map(|at| earlier.swap_remove(at)) else {
            // Polar was asked before this was wanted.
            comparison.under_way.push(subject.clone());
            continue;
        };
        if known.difference != found.difference
            || is_under_way(pool, organization, &after, &found).await?
        {
            comparison.under_way.push(subject.clone());
        } else {
            comparison.differences.push(found.difference);
        }
        comparison.repairs.extend(found.repair);
        comparison.foreign_members.extend(found.foreign_member);
    }
    let changed = earlier.into_iter().map(|one| one.difference.subject);
    comparison.under_way.extend(changed);
    Ok(Some(comparison))
}

/// Three calls, because a customer's state leaves out subscriptions that are past due or paused, and changes that wait
/// for the end of a period (docs/polar-facts.md#state-changed).
async fn ask(polar: &polar::Client, organization: OrganizationId) -> Result<AtPolar, Error> {
    let external_id = organization.to_string();
    let customer = CustomerRef::External(&external_id);
    let state = polar
        .customers()
        .state_by_external_id(&external_id)
        .await
        .or_absent()?;
    let Some(state) = state else {
        return Ok(AtPolar {
            state: None,
            members: Vec::new(),
            subscriptions: Vec::new(),
        });
    };
    let members = polar.members().all(customer).await?;
    Ok(AtPolar {
        state: Some(state),
        members,
        subscriptions: polar.subscriptions().all(customer).await?,
    })
}

fn differ(organization: OrganizationId, held: &HeldOrganization, at_polar: &AtPolar) -> Vec<Found> {
    let Some(state) = &at_polar.state else {
        return vec![customer::missing(organization, held)];
    };
    let mut found = Vec::new();
    found.extend(customer::differs(organization, held, &state.customer));
    found.extend(members::differ(
        organization,
        held,
        state.customer.id,
        &at_polar.members,
    ));
    found.extend(holdings::benefits_differ(organization, held, state));
    found.extend(holdings::subscription_differs(
        organization,
        held,
        &at_polar.subscriptions,
    ));
    found
}

/// Whether a job may be about to repair it. What is known to be out of step has its reason, and counts as a difference
/// whatever job waits.
async fn is_under_way(
    pool: &PgPool,
    organization: OrganizationId,
    held: &HeldOrganization,
    found: &Found,
) -> Result<bool, sqlx::Error> {
    let subject = &found.difference.subject;
    if found.repair.is_none() || held.reasons.iter().any(|(known, _)| known == subject) {
        return Ok(false);
    }
    // A change that is still to be applied may be about anything, and the customer's sync brings
    // whatever else is unconfirmed.
    let mut keys = vec![
        organization_key(organization),
        format!("{}{organization}", SyncCustomer::KEYS),
    ];
    keys.extend(
        found
            .repair
            .as_ref()
            .and_then(|job| job.ordering_key.clone()),
    );
    unfinished_jobs::is_under_way(pool, &keys).await
}

/// Why a subject differs: what is known of it, else whether Polar ever confirmed it.
fn cause_of(held: &HeldOrganization, subject: &str, is_confirmed: bool) -> String {
    let known = held.reasons.iter().find(|(known, _)| known == subject);
    match known {
        Some((_, reason)) => reason.clone(),
        None if is_confirmed => CHANGED.to_owned(),
        None => UNCONFIRMED.to_owned(),
    }
}

fn sync_customer(organization_id: OrganizationId) -> NewJob {
    NewJob::of(&SyncCustomer { organization_id })
}

fn sync_member(organization_id: OrganizationId, user_id: UserId) -> NewJob {
    NewJob::of(&SyncMember {
        organization_id,
        user_id,
    })
}

fn apply_benefits(organization: OrganizationId) -> NewJob {
    NewJob::of(&ApplyBenefits::of(organization))
}

fn sync_subscription(organization: OrganizationId) -> NewJob {
    NewJob::of(&SyncSubscription::of(organization))
}
