//! What a backfill would take, without writing anything.

use std::collections::BTreeSet;

use jobs::change::Change;
use jobs::mirror::backfill::estimate;
use sqlx::PgPool;
use uuid::Uuid;

use super::file::{ChangesFile, organization_of};
use crate::cli::{Failure, output};

/// A customer or member that Polar may not have: one call to look, one to make it.
const CALLS_TO_MAKE: i64 = 2;
/// A member that it has: one call to look, one to change it.
const CALLS_TO_CHANGE: i64 = 2;
/// A customer that it has: itself, its owner, and one call to change it.
const CALLS_TO_CORRECT: i64 = 3;
/// A customer that is there: itself, its owner, its grants, its subscriptions.
const CALLS_FOR_KNOWN: i64 = 4;

/// Counts, and about the calls that they cost: what Polar has already as it is wanted costs fewer, what it
/// refuses, or has in the way, more.
pub(super) struct Estimate {
    counts: Vec<(i64, &'static str, &'static str)>,
    calls: i64,
}

impl Estimate {
    /// A file's: every organization that it changes, every person of one that it names, and whoever it renames in
    /// each organization of theirs.
    pub(super) async fn of_file(pool: &PgPool, file: &ChangesFile) -> Result<Self, Failure> {
        let organizations = file.organizations();
        let (mut changed, mut owners) = (BTreeSet::new(), BTreeSet::new());
        let (mut members, mut renamed) = (BTreeSet::new(), BTreeSet::new());
        for read in &file.changes {
            match &read.change {
                Change::OrganizationCreated {
                    organization,
                    owner,
                    ..
                } => {
                    changed.insert(organization.0);
                    owners.insert((organization.0, owner.id.0));
                }
                Change::OrganizationUpdated { organization, .. }
                | Change::OrganizationDeleted { organization } => {
                    changed.insert(organization.0);
                }
                Change::UserUpdated { user, .. } => {
                    renamed.insert(user.0);
                }
                change => members.extend(member_of(change)),
            }
        }
        let (mut changes, mut usage, mut costs) = (Vec::new(), Vec::new(), Vec::new());
        for read in &file.changes {
            let ids = match read.change {
                Change::UsageRecorded(_) => &mut usage,
                Change::CostRecorded(_) => &mut costs,
                _ => &mut changes,
            };
            ids.push(read.id.clone());
        }
        let stored = estimate::known_changes(pool, &changes, &usage, &costs).await?;
        let changed: Vec<Uuid> = changed.into_iter().collect();
        let known = estimate::with_customer(pool, &changed).await?;
        let renamed: Vec<Uuid> = renamed.into_iter().collect();
        let mut renamed = estimate::memberships_of(pool, &renamed).await?;
        renamed.retain(|member| !members.contains(member) && !owners.contains(member));
        let (changes, count) = (as_count(file.changes.len()), as_count(organizations.len()));
        let members = as_count(members.len());
        Ok(Self {
            counts: vec![
                (changes, "change", "changes"),
                (stored, "change stored before", "changes stored before"),
                (count, "organization", "organizations"),
                (
                    members,
                    "member beside the owner",
                    "members beside the owners",
                ),
            ],
            calls: known * CALLS_TO_CORRECT
                + (as_count(changed.len()) - known) * CALLS_TO_MAKE
                + members * CALLS_TO_MAKE
                + as_count(renamed.len()) * CALLS_TO_CHANGE,
        })
    }

    /// That of every organization we know.
    pub(super) async fn of_tables(pool: &PgPool, but: Option<Uuid>) -> Result<Self, Failure> {
        let extent = estimate::extent(pool, but).await?;
        Ok(Self {
            counts: vec![
                (extent.organizations, "organization", "organizations"),
                (
                    extent.unconfirmed,
                    "member that Polar has not confirmed",
                    "members that Polar has not confirmed",
                ),
            ],
            calls: extent.organizations * CALLS_FOR_KNOWN + extent.unconfirmed * CALLS_TO_MAKE,
        })
    }

    /// `limit`: calls in a minute, of which nine tenths are used.
    pub(super) fn print(&self, limit: u32) -> Result<(), Failure> {
        let line = |count: i64, one: &str, many: &str| {
            output::line(&format!(
                "{count:>9} {}",
                if count == 1 { one } else { many }
            ))
        };
        for (count, one, many) in &self.counts {
            line(*count, one, many)?;
        }
        let per_minute = (i64::from(limit) * 9 / 10).max(1);
        let minutes = (self.calls + per_minute - 1) / per_minute;
        line(self.calls, "call to Polar, about", "calls to Polar, about")?;
        let at = format!("at {limit} calls a minute (POLAR_RATE_LIMIT), if nothing else is asked");
        line(minutes, &format!("minute {at}"), &format!("minutes {at}"))
    }
}

/// An organization's creation makes its owner too.
fn member_of(change: &Change) -> Option<(Uuid, Uuid)> {
    let organization = organization_of(change)?;
    let user = match change {
        Change::MemberAdded { user, .. } => user.id,
        Change::MemberUpdated { user, .. }
        | Change::MemberRemoved { user, .. }
        | Change::OwnershipTransferred { user, .. } => *user,
        _ => return None,
    };
    Some((organization, user.0))
}

fn as_count(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}
