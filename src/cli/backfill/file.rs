//! A file of changes: read whole and checked before anything is written.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use jobs::change::{self, Change};
use jobs::contract::begin;
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use crate::cli::progress::Progress;
use crate::cli::{Failure, output};
use crate::ingress::Import;
use crate::operators::{self, Actor, OperatorAction};
use crate::queue::connect::set_lock_timeout;
use crate::sqlstate::is_held;

/// Changes in one transaction.
const CHUNK: usize = 500;
/// How long a part waits for what an open transaction of the application changes. Less than the second after which
/// Postgres looks for a deadlock: where both hold what the other needs, it is the part that gives way.
const LOCK_TIMEOUT: Duration = Duration::from_millis(600);
/// Before a part that gave way is stored again.
const PAUSE: Duration = Duration::from_millis(100);
/// Faults that are listed; a file of another kind has one on every line.
const MOST_FAULTS: usize = 100;
/// What ids of lines are made in, so that they are nobody else's.
const NAMESPACE: Uuid = Uuid::from_u128(0x9d4c_1c0e_7f8b_4e57_8a53_2f1f_60f2_7b11);

/// Every change of a file, in its order, each with an id.
pub(super) struct ChangesFile {
    pub(super) changes: Vec<ReadChange>,
}

/// One line.
pub(super) struct ReadChange {
    pub(super) id: String,
    pub(super) change: Change,
    value: Value,
}

impl ChangesFile {
    /// Reads and checks all of it.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let (mut changes, mut faults) = (Vec::new(), Vec::new());
        for (line, text) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
            let text = text.trim_ascii();
            if text.is_empty() {
                continue;
            }
            match read_line(line, text) {
                Ok(change) => changes.push(change),
                Err(found) => faults.extend(found),
            }
        }
        if faults.is_empty() {
            return Ok(Self { changes });
        }
        for fault in faults.iter().take(MOST_FAULTS) {
            output::line(fault)?;
        }
        let count = output::counted(faults.len(), "fault");
        Err(Failure::failed(format!(
            "{}: {count}, nothing is written",
            path.display()
        )))
    }

    /// The organizations that the changes are about.
    pub(super) fn organizations(&self) -> Vec<Uuid> {
        let about = self
            .changes
            .iter()
            .filter_map(|read| organization_of(&read.change));
        about.collect::<BTreeSet<Uuid>>().into_iter().collect()
    }

    /// Stores all of it, part by part. What a run before stored is there already.
    pub(super) async fn store(&self, pool: &PgPool, actor: &Actor) -> Result<(), Failure> {
        let progress = Progress::new(
            "changes stored",
            i64::try_from(self.changes.len()).unwrap_or(i64::MAX),
        );
        let mut new = 0;
        for chunk in self.changes.chunks(CHUNK) {
            let mut import = Import::default();
            for read in chunk {
                import
                    .add(read.value.clone())
                    .map_err(|_| Failure::failed("a change that was checked has a fault"))?;
            }
            let stored = loop {
                match store_part(pool, &import, actor).await {
                    Err(error) if is_held(&error) => {
                        let held = error.as_database_error().map_or("", |held| held.message());
                        progress.waits(held);
                        tokio::time::sleep(PAUSE).await;
                    }
                    stored => break stored?,
                }
            };
            new += stored;
            progress.advance(chunk.len());
        }
        progress.finish();
        let known = self.changes.len() - new;
        let stored = output::counted(new, "change");
        let were = if known == 1 { "was" } else { "were" };
        output::line(&format!("{stored} stored, {known} {were} stored before"))
    }
}

/// Stores one part, or nothing of it.
async fn store_part(pool: &PgPool, import: &Import, actor: &Actor) -> Result<usize, sqlx::Error> {
    let mut transaction = begin(pool).await?;
    set_lock_timeout(&mut transaction, LOCK_TIMEOUT).await?;
    let stored = import.store(&mut transaction).await?;
    if stored > 0 {
        let action = OperatorAction::new("backfill", "changes").with(json!({ "changes": stored }));
        operators::record(&mut transaction, actor, &action).await?;
    }
    transaction.commit().await?;
    Ok(stored)
}

fn read_line(line: u32, text: &[u8]) -> Result<ReadChange, Vec<String>> {
    let mut value: Value = serde_json::from_slice(text)
        .map_err(|error| vec![format!("line {line}: is not JSON: {error}")])?;
    let parsed = change::parse(&value).map_err(|faults| {
        let told = faults
            .iter()
            .map(|fault| format!("line {line}: {} {}", fault.pointer, fault.message));
        told.collect::<Vec<_>>()
    })?;
    let id = parsed.id.unwrap_or_else(|| {
        let place = [text, b"\n", line.to_string().as_bytes()].concat();
        format!("backfill/{}", Uuid::new_v5(&NAMESPACE, &place))
    });
    value["id"] = Value::from(id.as_str());
    Ok(ReadChange {
        id,
        change: parsed.change,
        value,
    })
}

/// Whom a change is about; a person's own changes are about no organization by themselves.
pub(super) fn organization_of(change: &Change) -> Option<Uuid> {
    match change {
        Change::OrganizationCreated { organization, .. }
        | Change::OrganizationUpdated { organization, .. }
        | Change::OrganizationDeleted { organization }
        | Change::MemberAdded { organization, .. }
        | Change::MemberUpdated { organization, .. }
        | Change::MemberRemoved { organization, .. }
        | Change::OwnershipTransferred { organization, .. } => Some(organization.0),
        Change::UserUpdated { .. } | Change::UsageRecorded(_) | Change::CostRecorded(_) => None,
    }
}
