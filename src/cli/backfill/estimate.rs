//! What a backfill would take, without writing anything.

use std::collections::BTreeSet;

use jobs::change::Change;
use jobs::mirror::backfill;
use sqlx::PgPool;
use uuid::Uuid;

use super::file::{ChangesFile, organization_of};
use crate::cli::{Failure, output};

/// A customer or member that Polar may not have: one call to look, one to make it.
const CALLS_TO_MAKE: i64 = 2;
/// One that it has: one call to look.
const CALLS_TO_LOOK: i64 = 1;
/// A customer that is there: itself, its owner, its grants, its subscriptions.
const CALLS_FOR_KNOWN: i64 = 4;

/// Counts, and the calls that they cost.
pub(super) struct Estimate {
    counts: Vec<(i64, &'static str, &'static str)>,
    calls: i64,
}

impl Estimate {
    /// A file's: every organization and every person of one that its changes name.
    pub(super) async fn of_file(pool: &PgPool, file: &ChangesFile) -> Result<Self, Failure> {
        let organizations = file.organizations();
        let members: BTreeSet<(Uuid, Uuid)> = file
            .changes
            .iter()
            .filter_map(|read| member_of(&read.change))
            .collect();
        let (mut changes, mut usage, mut costs) = (Vec::new(), Vec::new(), Vec::new());
        for read in &file.changes {
            let ids = match read.change {
                Change::UsageRecorded(_) => &mut usage,
                Change::CostRecorded(_) => &mut costs,
                _ => &mut changes,
            };
            ids.push(read.id.clone());
        }
        let stored = backfill::known_changes(pool, &changes, &usage, &costs).await?;
        let known = backfill::with_customer(pool, &organizations).await?;
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
            calls: known * CALLS_TO_LOOK
                + (count - known) * CALLS_TO_MAKE
                + members * CALLS_TO_MAKE,
        })
    }

    /// That of every organization we know.
    pub(super) async fn of_tables(pool: &PgPool, but: Option<Uuid>) -> Result<Self, Failure> {
        let extent = backfill::extent(pool, but).await?;
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
        line(
            self.calls,
            "call to Polar at most",
            "calls to Polar at most",
        )?;
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
